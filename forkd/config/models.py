"""The pydantic models of a configuration's mappings, derived from the specs; the only module that knows pydantic."""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import pydantic
from pydantic.json_schema import GenerateJsonSchema, WithJsonSchema
from pydantic_core import PydanticCustomError

from forkd.config.fields import Field, Traits, is_spec, unwrap
from forkd.config.kinds import Kind, Schema, check, kind
from forkd.config.later import TAKEN
from forkd.config.names import Misfit
from forkd.config.shape import FileKeys, keys_of, later_keys_of
from forkd.config.written import kind_of, show
from forkd.core.spec import ServiceSpec

Path = tuple[str | int, ...]
_MOST_NAMED = 8  # keys of a mapping, where another value stands
_SUBSTITUTION = {"type": "string", "pattern": r"\$\{[A-Za-z_]", "description": "Taken from the environment."}
_CONFIG = pydantic.ConfigDict(extra="forbid", strict=True)


class Mistake(NamedTuple):
    """What is wrong at `path`; `known` are the keys that fit there where a key is unknown."""

    path: Path
    text: str
    known: tuple[str, ...] = ()
    at_key: bool = False


def mistakes(document: Any) -> list[Mistake]:
    """Return what is wrong with a file's plain data, as far as it can be judged key by key."""
    try:
        model_of(FileKeys).model_validate(document)
    except pydantic.ValidationError as error:
        return [_mistake(item) for item in error.errors(include_url=False)]
    return []


def values(document: Any) -> dict[str, Any]:
    """Return the values of plain data without mistakes, each in its unit; only the keys that are given."""
    given: dict[str, Any] = model_of(FileKeys).model_validate(document).model_dump(exclude_unset=True)
    return given


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a configuration file, for editors."""
    made = _referring(model_of(FileKeys, later=False).model_json_schema(schema_generator=_Generator))
    made["$defs"]["Substitution"] = _SUBSTITUTION
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "forkd configuration"}


@functools.cache
def model_of(spec: type, *, later: bool = True) -> type[pydantic.BaseModel]:
    """Return the model of a spec's mapping, with no key required; `later`: with the keys of later versions."""
    keys = {**keys_of(spec), **later_keys_of(spec)} if later else keys_of(spec)
    fields: dict[str, Any] = {name: _model_field(field, later=later) for name, field in keys.items()}
    name = spec.__name__.removesuffix("Spec").removesuffix("Keys")
    return pydantic.create_model(name, __config__=_CONFIG, __doc__=spec.__doc__, **fields)


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- titles would only repeat the keys
        return False


def _referring(schema: Any) -> Any:
    """Return a schema in which each substitution is a reference to the one definition, and other keys are none."""
    if schema == _SUBSTITUTION:
        return {"$ref": "#/$defs/Substitution"}
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "patternProperties" in schema else {}
        return closed | {key: _referring(value) for key, value in schema.items()}
    return [_referring(value) for value in schema] if isinstance(schema, list) else schema


def _model_field(field: Field, *, later: bool) -> tuple[Any, Any]:
    traits = field.traits
    if field.name in TAKEN and not later:
        traits = traits._replace(unit="", one_of=(TAKEN[field.name],))
    shown = _is_json(field.default) and field.default not in ("", 0) and traits.unit != "percentage"
    extra = {"default": field.default} if shown else {}
    said = pydantic.Field(
        default_factory=lambda: None,
        description=traits.text or None,
        json_schema_extra=extra,
    )
    return _type(field.type, traits, optional=field.optional, later=later), said


def _is_json(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _type(base: Any, traits: Traits, *, optional: bool, later: bool) -> Any:
    """Return the pydantic type of a field's type."""

    def inner(hint: Any) -> Any:
        type_, own = unwrap(hint)
        return _type(type_, own._replace(secret=traits.secret), optional=False, later=later)

    origin, arguments = get_origin(base), get_args(base)
    if base is Any:
        return Any
    if is_spec(base):
        return model_of(base, later=later)
    if origin is tuple:
        return _list(inner(arguments[0]))
    if origin is dict:
        return dict.__class_getitem__((_key(arguments[0], traits), inner(arguments[1])))
    return _scalar(base, traits, optional=optional)


def _key(hint: Any, traits: Traits) -> Any:
    base, own = unwrap(hint)
    found = kind(base, own)
    return Annotated[str, _validator(found, secret=traits.secret), WithJsonSchema(found.schema)]


def _list(item: Any) -> Any:
    def read(value: Any) -> Any:
        if isinstance(value, dict) or value is None:
            raise _mistaken(f"expected a list, got {show(value)}")
        return value if isinstance(value, list) else [value]

    return Annotated[list[item], pydantic.BeforeValidator(read), _OneOrMore()]


class _OneOrMore:
    """Tells a JSON Schema that a list with one item may be written as that item."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Schema:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}


def _scalar(base: type, traits: Traits, *, optional: bool) -> Any:
    found = kind(base, traits)
    alternatives = list(found.schema.get("anyOf", [found.schema]))
    if found.schema != {"type": "string"}:
        alternatives.append(_SUBSTITUTION)
    if optional:
        alternatives.append({"type": "null"})
    shown = {"anyOf": alternatives} if len(alternatives) > 1 else found.schema
    return Annotated[Any, _validator(found, secret=traits.secret, optional=optional), WithJsonSchema(shown)]


def _validator(found: Kind, *, secret: bool, optional: bool = False) -> pydantic.PlainValidator:
    def read(value: Any) -> Any:
        if optional and value is None:
            return None
        try:
            return check(found, value, secret=secret)
        except Misfit as error:
            raise _mistaken(str(error)) from None

    return pydantic.PlainValidator(read)


def _mistaken(text: str) -> PydanticCustomError:
    return PydanticCustomError("mistake", "{text}", {"text": text})


def _mistake(error: Any) -> Mistake:
    path: Path = error["loc"]
    at_key = path[-1:] == ("[key]",)
    path = path[:-1] if at_key else path
    if error["type"] == "mistake":
        return Mistake(path, error["ctx"]["text"], at_key=at_key)
    if error["type"] == "extra_forbidden":
        hint = _misplaced(path)
        return Mistake(path, f"unknown key{hint}", () if hint else _keys_at(path[:-1]), at_key=True)
    keys = _keys_at(path)
    with_keys = f" with {', '.join(keys[:-1])} or {keys[-1]}" if 1 < len(keys) <= _MOST_NAMED else ""
    return Mistake(path, f"expected a mapping{with_keys}, got {kind_of(error['input'])}")


def _misplaced(path: Path) -> str:
    """Say where a key belongs that stands at the top of a file and is a service's, or the other way round."""
    if len(path) == 1 and path[0] in keys_of(ServiceSpec):
        return "; it belongs to a service, or into `defaults`"
    if path[:-1] and path[0] in ("services", "defaults") and path[-1] in keys_of(FileKeys):
        return "; it stands beside `services`"
    return ""


def _keys_at(path: Path) -> tuple[str, ...]:
    """Return the keys of the mapping at `path`; none where it may have any."""
    type_: Any = model_of(FileKeys)
    for part in path:
        type_ = type_.model_fields[part].annotation if hasattr(type_, "model_fields") else get_args(type_)[-1]
    return tuple(getattr(type_, "model_fields", ()))
