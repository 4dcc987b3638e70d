"""How each kind of value is written: what reads it, what a message calls it, its JSON Schema; all from a field's type.

It knows no key and no place. A reader takes a value as it came from YAML and returns it in its
unit; it raises Misfit when the value is not of the kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.config import addresses, names
from forkd.config.names import Misfit
from forkd.config.written import Text, kind_of, show, text_of
from forkd.core.spec import UNLIMITED
from forkd.lease import address

if TYPE_CHECKING:
    from forkd.config.fields import Traits

Schema = dict[str, Any]
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}
_BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "": 1}
_UNIT_SHOWN = {"duration": "s", "size": " bytes"}
_DURATION = r"(?P<number>[0-9]{1,12}(\.[0-9]{1,9})?)(?P<unit>ms|s|m|h|)"
_SIZE = r"(?P<number>[0-9]{1,15})(?P<unit>KiB|MiB|GiB|)"
_OCTAL = r"(0o?)?[0-7]{1,4}"
_PERCENTAGE = r"[1-9][0-9]{0,5}%"
_PERCENTAGE_OF_WHOLE = r"([0-9]{1,2}|100)%"


class Kind(NamedTuple):
    """`read` turns what YAML gave into the value; `expected` completes "expected …"; `schema` describes the YAML."""

    expected: str
    read: Callable[[Any], Any]
    schema: Schema


def kind(base: type, traits: Traits) -> Kind:
    """Return the kind of a scalar of type `base` with what its field says of it."""
    if traits.one_of:
        return _choice(traits.one_of)
    if traits.unit:
        return _UNITS[traits.unit](traits)
    return {bool: _bool, int: _integer, float: _number, str: _string}[base](traits)


def check(kind: Kind, value: Any, *, secret: bool = False) -> Any:
    """Return `value` read; raises Misfit with the sentence that users see, which tells no secret."""
    try:
        return kind.read(value)
    except names.NotYet:
        raise Misfit(names.LATER) from None
    except Misfit as error:
        if secret and str(error):
            raise  # it says what is wrong, and of the value nothing more can be told
        sentence = str(error) or f"expected {kind.expected}"
        raise Misfit(f"{sentence}, got {kind_of(value) if secret else show(value)}") from None


def _fits(number: float, traits: Traits) -> None:
    if traits.at_least is not None and number < traits.at_least:
        raise Misfit
    if traits.at_most is not None and number > traits.at_most:
        raise Misfit(f"expected at most {traits.at_most:.0f}{_UNIT_SHOWN.get(traits.unit, '')}")


def _bounds(traits: Traits) -> Schema:
    bounds = {"minimum": traits.at_least, "maximum": traits.at_most}
    return {key: value for key, value in bounds.items() if value is not None}


def _floor(traits: Traits) -> str:
    return "" if traits.at_least is None else f" ≥ {traits.at_least:g}"


def _pattern(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^({re.sub('[?]P<[a-z]+>', '', pattern)})$"}


def _bool(_traits: Traits) -> Kind:
    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Misfit
        return value

    return Kind("true or false", read, {"type": "boolean"})


def _integer(traits: Traits) -> Kind:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Misfit
        _fits(value, traits)
        return int(value)

    return Kind(f"an integer{_floor(traits)}", read, {"type": "integer", **_bounds(traits)})


def _number(traits: Traits) -> Kind:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Misfit
        _fits(value, traits)
        return float(value)

    return Kind(f"a number{_floor(traits)}", read, {"type": "number", **_bounds(traits)})


def _string(_traits: Traits) -> Kind:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Misfit
        return str(value)

    return Kind("a string", read, {"type": "string"})


def _choice(values: tuple[str, ...]) -> Kind:
    def read(value: Any) -> str:
        if value not in values:
            raise Misfit
        return str(value)

    listed = " or ".join(filter(None, [", ".join(f'"{value}"' for value in values[:-1]), f'"{values[-1]}"']))
    return Kind(listed, read, {"enum": list(values)})


def _measure(pattern: str, factors: dict[str, Any], traits: Traits) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        found = re.fullmatch(pattern, text_of(value) or "")
        if not found:
            raise Misfit
        number = float(found["number"]) if isinstance(value, float) or "." in found["number"] else int(found["number"])
        measured: float = number * factors[found["unit"]]
        _fits(measured, traits)
        return measured

    return read


def _duration(traits: Traits) -> Kind:
    read = _measure(_DURATION, _SECONDS, traits)
    above = " above 0" if traits.at_least else ""
    expected = f"a duration{above} (250ms, 30s, 5m, 12h or a number of seconds)"
    schema = {"anyOf": [{"type": "number", **_bounds(traits)}, _pattern(_DURATION)]}
    return Kind(expected, lambda value: float(read(value)), schema)


def _size(traits: Traits) -> Kind:
    above = " above 0" if traits.at_least else ""
    expected = f"a size{above} (512KiB, 50MiB, 1GiB or a number of bytes)"
    schema = {"anyOf": [{"type": "integer", **_bounds(traits)}, _pattern(_SIZE)]}
    return Kind(expected, _measure(_SIZE, _BYTES, traits), schema)


def _octal(traits: Traits) -> Kind:
    # YAML 1.1 reads 027 as 23, YAML 1.2 as 27, and "0o27" is a number in 1.2 alone: only the characters are clear.
    def read(value: Any) -> int:
        text = text_of(value) or ""
        if not re.fullmatch(_OCTAL, text):
            raise Misfit
        number = int(text.removeprefix("0o"), 8)
        if traits.at_most is not None and number > traits.at_most:
            raise Misfit(f"expected at most 0{int(traits.at_most):o}")
        return number

    schema = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 777}, _pattern(_OCTAL)]}
    return Kind('octal digits such as "027"', read, schema)


def _count(traits: Traits) -> Kind:
    integer = _integer(traits)
    schema = {"anyOf": [integer.schema, {"const": "auto"}]}
    return Kind(
        f'{integer.expected} or "auto"', lambda value: "auto" if value == "auto" else integer.read(value), schema
    )


def _limit(traits: Traits) -> Kind:
    integer = _integer(traits)
    schema = {"anyOf": [integer.schema, {"const": "unlimited"}]}
    return Kind(
        f'{integer.expected} or "unlimited"',
        lambda value: UNLIMITED if value == "unlimited" else integer.read(value),
        schema,
    )


def _processor(traits: Traits) -> Kind:
    integer = _integer(traits)
    return Kind("the number of a processor", lambda value: names.processor(integer.read(value)), integer.schema)


def _share(traits: Traits) -> Kind:
    integer = _integer(traits)

    def read(value: Any) -> int | str:
        if isinstance(value, str) and re.fullmatch(_PERCENTAGE, value):
            return str(value)
        return int(integer.read(value))

    expected = f"{integer.expected} or a percentage such as 25%"
    return Kind(expected, read, {"anyOf": [integer.schema, _pattern(_PERCENTAGE)]})


def _percentage(_traits: Traits) -> Kind:
    def read(value: Any) -> float:
        if not isinstance(value, str) or not re.fullmatch(_PERCENTAGE_OF_WHOLE, value):
            raise Misfit
        return int(value.removesuffix("%")) / 100

    return Kind("a percentage such as 10%", read, _pattern(_PERCENTAGE_OF_WHOLE))


def _written(_traits: Traits) -> Kind:
    def read(value: Any) -> str:
        text = text_of(value)
        if text is None:
            raise Misfit
        return str(text)

    return Kind("a string (in quotes)", read, {"type": ["string", "number"]})


def _matching(expected: str, pattern: str) -> Callable[[Traits], Kind]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Misfit
        return str(value)

    return lambda _traits: Kind(expected, read, _pattern(pattern))


def _string_that(expected: str, read: Callable[[Text], str], pattern: str = ".+") -> Callable[[Traits], Kind]:
    def read_text(value: Any) -> str:
        if not isinstance(value, Text) or not value:
            raise Misfit
        return read(value)

    return lambda _traits: Kind(expected, read_text, _pattern(pattern))


def _account(expected: str, read: Callable[[str], str]) -> Callable[[Traits], Kind]:
    def read_text(value: Any) -> str:
        text = text_of(value)
        if not text:
            raise Misfit
        return read(text)

    return lambda _traits: Kind(expected, read_text, {"type": ["string", "integer"], "minLength": 1, "minimum": 0})


def _output(_traits: Traits) -> Kind:
    def read(value: Any) -> Any:
        is_file = isinstance(value, dict) and "file" in value and value.keys() <= {"file", "max_size", "keep"}
        if not is_file and value not in ("inherit", "capture"):
            raise Misfit
        return value

    return Kind('"inherit", "capture" or {file: …, max_size: …, keep: …}', read, {"enum": ["inherit"]})


_UNITS: dict[str, Callable[[Traits], Kind]] = {
    "duration": _duration,
    "size": _size,
    "octal": _octal,
    "count": _count,
    "share": _share,
    "limit": _limit,
    "limit name": _matching(", ".join(names.LIMITS[:-1]) + f" or {names.LIMITS[-1]}", "|".join(names.LIMITS)),
    "processor": _processor,
    "text": _written,
    "output": _output,
    "service": _matching("a name of 1 to 64 letters, digits, _ and -", names.SERVICE),
    "topic": _matching("a topic of 1 to 64 letters, digits, _, - and ., not - or . first", names.TOPIC),
    "server": _matching('"wsgi" or "package.module:ServerSubclass"', names.SERVER),
    "app": _matching('"package.module:application" or "package.module:factory()"', names.APP),
    "argument": _matching("the name of a keyword argument", names.ARGUMENT),
    "variable": _matching("the name of an environment variable", names.VARIABLE),
    "percentage": _percentage,
    "url path": _matching("a path such as /healthz", names.URL_PATH),
    "peer": _string_that("uid:…, gid:…, user:… or group:…", names.peer, names.PEER),
    "transport": _string_that('"local" or "amqp://USER@HOST/VHOST"', names.transport, "local|amqps?://.+"),
    "proxy": _string_that(addresses.PROXY_EXPECTED, addresses.proxy),
    "log file": _string_that("stdout, stderr or a path", names.log_file),
    "lease": _string_that(address.EXPECTED, names.lease, address.SHAPE),
    "path": _string_that("a path", names.path),
    "program": _string_that("the path of a program", names.program),
    "folder": _string_that("the path of a directory", names.folder),
    "user": _account("the name or number of a user", names.user),
    "group": _account("the name or number of a group", names.group),
    "address": _string_that(addresses.EXPECTED, addresses.read, addresses.SHAPE),
}
