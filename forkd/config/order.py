"""What must hold of `after`: names that exist, and a first one in every order; it starts and stops nothing."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from forkd.config.problems import Breach

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def order_breaches(after: Mapping[str, Sequence[str]]) -> Iterator[Breach]:
    """Yield what is wrong in what each service comes after: a name that is none, a circle at each place of it."""
    for service, names in after.items():
        for number, name in enumerate(names):
            if name not in after:
                close = difflib.get_close_matches(name, after, n=1)
                hint = f'; did you mean "{close[0]}"?' if close else ""
                yield Breach(service, "after", f'no service is named "{name}"{hint}', (number,))
            elif circle := _way(after, name, service):
                text = "comes after itself: " + " after ".join([service, *circle])
                yield Breach(service, "after", text, (number,))


def _way(after: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str]:
    """Return the shortest way from one service to another, both included, by what each comes after; [] for none."""
    ways, seen = [[start]], {start}
    for way in ways:
        if way[-1] == goal:
            return way
        for name in after.get(way[-1], ()):
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
