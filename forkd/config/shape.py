"""The mapping that a configuration file is: its own keys, and which later keys belong to which of its mappings."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from forkd.config.fields import Field, fields_of
from forkd.config.later import TAKEN, LaterFileKeys, LaterService
from forkd.core.field import Doc, Secret, Unit
from forkd.core.spec import LogFormat, LogLevel, RuntimeDir, ServiceSpec


class LogKeys(NamedTuple):
    """What forkd itself says on its standard error."""

    level: LogLevel = "info"
    format: LogFormat = "text"


class FileKeys(NamedTuple):
    """A configuration file."""

    runtime_dir: RuntimeDir = ""
    include: Annotated[
        tuple[Annotated[str, Unit("path")], ...],
        Doc("more files with services, relative to this one; a pattern may match none", "[conf.d/*.yaml]"),
    ] = ()
    log: Annotated[LogKeys, Doc("what forkd itself says on its standard error")] = LogKeys()
    lease: Annotated[
        str,
        Unit("lease"),
        Secret(),
        Doc(
            "what says which worker of all hosts has a task of the scope `cluster`; `?ttl=10s` is for how long, and "
            "`?password_file=PATH` where the password is",
            "redis://127.0.0.1:6379/0",
        ),
    ] = ""
    defaults: Annotated[ServiceSpec | None, Doc("any key of a service, for every service without it")] = None
    services: Annotated[dict[Annotated[str, Unit("service")], ServiceSpec], Doc("the services, by name")] = {}  # noqa: RUF012 -- never written to


LATER: dict[type, type] = {
    FileKeys: LaterFileKeys,
    ServiceSpec: LaterService,
}


def keys_of(spec: type) -> dict[str, Field]:
    """Return the keys of a mapping that are supported, in the order of the reference."""
    later = fields_of(LATER[spec]) if spec in LATER else {}
    taken = {name: field for name, field in later.items() if name in TAKEN}
    hidden = ("name", "lease") if spec is ServiceSpec else ()
    return {name: field for name, field in (fields_of(spec) | taken).items() if name not in hidden}


def later_keys_of(spec: type) -> dict[str, Field]:
    """Return the keys of a mapping that are known and not supported, or with one value only."""
    return fields_of(LATER[spec]) if spec in LATER else {}
