"""Specs to JSON documents and back; it validates no setting, and imports nothing that the launcher should not carry."""

from __future__ import annotations

from typing import Any

from forkd.core.spec import Config, ServiceSpec
from forkd.errors import ProtocolError


def config_from(document: Any) -> Config:
    """Return the configuration of a document made by `config_to`. Raises ProtocolError for anything else."""
    known = _fields_in(Config, document)
    services = known.get("services", [])
    if not isinstance(services, list):
        raise ProtocolError("a configuration without a list of services")
    return Config(**{**known, "services": tuple(spec_from(service) for service in services)})


def config_to(config: Config) -> dict[str, Any]:
    """Return a configuration as a document for JSON."""
    return {**config._asdict(), "services": [spec_to(spec) for spec in config.services]}


def spec_from(document: Any) -> ServiceSpec:
    """Return the spec of a document made by `spec_to`; keys that it leaves out take their defaults.

    Raises ProtocolError for a document of another shape. Values are taken as they are.
    """
    return ServiceSpec(**{name: _revived(name, value) for name, value in _fields_in(ServiceSpec, document).items()})


def spec_to(spec: ServiceSpec) -> dict[str, Any]:
    """Return a spec as a document for JSON."""
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in spec._asdict().items()}


def _fields_in(spec: Any, document: Any) -> dict[str, Any]:
    required = set(spec._fields) - set(spec._field_defaults)
    if not isinstance(document, dict) or not required <= document.keys() <= set(spec._fields):
        raise ProtocolError(f"not a document of a {spec.__name__}")
    return document


def _revived(name: str, value: Any) -> Any:
    """Return what JSON made of a field's value in the type of its default."""
    default: Any = ServiceSpec._field_defaults.get(name)
    if hasattr(default, "_asdict"):
        return type(default)(**_fields_in(type(default), value))
    return tuple(value) if isinstance(default, tuple) else value
