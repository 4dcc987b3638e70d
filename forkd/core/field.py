"""What a field of a spec says beyond its type and its default: how it is written, its bounds, its line of reference."""

from __future__ import annotations

from typing import NamedTuple


class Doc(NamedTuple):
    """What the reference page says of a field, and an example value as it stands in YAML."""

    text: str
    example: str = ""


class Unit(NamedTuple):
    """How a field is written in YAML, beyond its type; `forkd/config/kinds.py` has a reader for each name."""

    name: str


class OneOf(NamedTuple):
    """The only values a field takes."""

    values: tuple[str, ...]


class AtLeast(NamedTuple):
    """The smallest number a field takes."""

    value: float


class AtMost(NamedTuple):
    """The largest number a field takes."""

    value: float


class OnlyWith(NamedTuple):
    """The key makes sense with one kind of server only: `wsgi`, or `own` (a Server subclass)."""

    server: str


class Secret(NamedTuple):
    """The values of a field may be secret: no message ever shows them."""
