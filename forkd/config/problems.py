"""Mistakes and their places, collected until all are known; it finds none itself."""

from __future__ import annotations

import re
from typing import NamedTuple

from forkd.config.written import quote
from forkd.errors import ConfigError

Path = tuple[str | int, ...]
MOST_SHOWN = 200
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Place(NamedTuple):
    """A character of a file, line and column counted from 1; `order` is the file's place among all that were read."""

    order: int
    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Give the form that editors and terminals can jump to."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """One mistake, at a place."""

    place: Place
    path: Path
    text: str

    def __str__(self) -> str:
        """Give the line that users see; what would not print, as in the name of a file, is escaped."""
        where = f"{self.place}: {dotted(self.path)}" if self.path else str(self.place)
        line = f"{where}: {self.text}"
        return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


class Unreadable(Exception):
    """A file cannot be understood at all, so nothing more can be said of it."""

    def __init__(self, place: Place, text: str, path: Path = ()) -> None:
        super().__init__(text)
        self.problem = Problem(place, path, text)


class Breach(NamedTuple):
    """A rule that `service` breaks with `key` (None: as a whole); `part` is a key within it."""

    service: str
    key: str | None
    text: str
    part: tuple[str | int, ...] = ()


class Problems:
    """All mistakes found so far, in any order; each is told once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, problem: Problem) -> None:
        """Record a mistake."""
        self._found[problem] = None

    def concerned(self) -> set[Path]:
        """Return the top-level keys that a mistake is in, and the keys of these."""
        return {problem.path[:length] for problem in self._found for length in (1, 2)}

    def error(self) -> ConfigError:
        """Return the error that tells them by place, and how many it leaves out."""
        lines = [str(problem) for problem in sorted(self._found, key=lambda problem: problem.place)]
        if len(lines) > MOST_SHOWN:
            lines[MOST_SHOWN:] = [f"… and {len(lines) - MOST_SHOWN} more"]
        return ConfigError(lines)


def dotted(path: Path) -> str:
    """Return a path as messages write it: `services.shop.bind[0]`; keys with other characters are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_KEY.fullmatch(part) else quote(part))
    return text
