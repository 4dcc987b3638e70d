"""What a worker counts by name: which kinds there are, what a name may be, and how the counts of many add up.

It knows of no memory: `scoreboard` keeps the values, and a worker's `ready` tells the names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    Name = tuple[str, str]  # a kind, and what is counted

SIZE = 512  # words of all values of a worker
OTHER = "other"  # the name of all for which there is no room
MOST = 128  # names that are told apart, of all kinds
_LONGEST = 128  # bytes of a name as JSON: as many as there is room for fit a message


class Kind(NamedTuple):
    """What is kept of each thing of a kind: `counts` add up; of two `latest`, an instant first, the later one stands.

    All are words of 8 bytes, and what is `latest` is in nanoseconds.
    """

    counts: tuple[str, ...]
    latest: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many words it takes."""
        return len(self.counts) + len(self.latest)


KINDS = {"task": Kind(("ok", "failed", "late", "skipped"), ("last_run", "lateness"))}


class Tally(NamedTuple):
    """The values of one name, in the order of its kind."""

    kind: str
    name: str
    values: tuple[int, ...]


def shortened(name: str) -> str:
    """Return a name, or as much of it as it may have."""
    name = name[:_LONGEST]
    while len(json.dumps(name)) > _LONGEST:
        name = name[:-1]
    return name


def names(given: Any) -> tuple[Name, ...]:
    """Return what a worker says that its names are; raise `ProtocolError` for what it may not say."""
    found = given if isinstance(given, list) else [given]
    if not all(map(_is_name, found)) or sum(KINDS[kind].width for kind, _ in found) > SIZE:
        msg = "its counters have no such names"
        raise ProtocolError(msg)
    # JSON can spell what no encoding can: half of a surrogate pair would raise wherever it is printed.
    return tuple((kind, name.encode(errors="replace").decode()) for kind, name in found)


def merged(tallies: Iterable[Tally]) -> tuple[Tally, ...]:
    """Add up tallies of the same name; those of too many names count as `OTHER`."""
    found: dict[Name, Tally] = {}
    for one in tallies:
        key = one.kind, one.name
        if key not in found and len(found) >= MOST:
            key = one.kind, OTHER
        found[key] = Tally(*key, _added(KINDS[one.kind], one.values, found[key].values)) if key in found else one
    return tuple(found.values())


def _added(kind: Kind, one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    counts = len(kind.counts)
    return *map(sum, zip(one[:counts], other[:counts], strict=True)), *max(one[counts:], other[counts:])


def _is_name(given: Any) -> bool:
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(part, str) for part in given):
        return False
    kind, name = given
    return kind in KINDS and len(name) <= _LONGEST
