"""The fields of a spec, as their types, defaults and metadata tell them; it validates nothing."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from forkd.core.field import AtLeast, AtMost, Doc, OneOf, OnlyWith, Secret, Unit


class Traits(NamedTuple):
    """What a field's metadata says; of two that say the same thing the later one holds."""

    unit: str = ""
    one_of: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    only_with: str = ""
    secret: bool = False
    text: str = ""
    example: str = ""


class Field(NamedTuple):
    """A key of a mapping: its bare type, whether nothing is a value too, and its default (`...`: it must be given)."""

    name: str
    type: Any
    optional: bool
    default: Any
    traits: Traits


def fields_of(spec: Any) -> dict[str, Field]:
    """Return the fields of a NamedTuple class, in their order."""
    defaults: dict[str, Any] = spec._field_defaults
    return {
        name: _field(name, hint, defaults.get(name, ...))
        for name, hint in get_type_hints(spec, include_extras=True).items()
    }


def unwrap(hint: Any) -> tuple[Any, Traits]:
    """Return a type without its annotations, and what they say."""
    if get_origin(hint) is not Annotated:
        return hint, Traits()
    return get_args(hint)[0], _traits(get_args(hint)[1:])


def is_spec(type_: Any) -> bool:
    """Tell whether a type is a NamedTuple class, so a mapping with known keys."""
    return isinstance(type_, type) and hasattr(type_, "_field_defaults")


def _field(name: str, hint: Any, default: Any) -> Field:
    type_, traits = unwrap(hint)
    alternatives = get_args(type_)
    optional = type(None) in alternatives
    if optional:
        type_ = alternatives[0]
    return Field(name, type_, optional, default, traits)


def _traits(metadata: tuple[Any, ...]) -> Traits:
    traits = Traits()
    for item in metadata:
        match item:
            case Unit(name):
                traits = traits._replace(unit=name)
            case OneOf(values):
                traits = traits._replace(one_of=values)
            case AtLeast(value):
                traits = traits._replace(at_least=value)
            case AtMost(value):
                traits = traits._replace(at_most=value)
            case OnlyWith(server):
                traits = traits._replace(only_with=server)
            case Secret():
                traits = traits._replace(secret=True)
            case Doc(text, example):
                traits = traits._replace(text=text, example=example)
    return traits
