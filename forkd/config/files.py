"""A configuration's files, with those that they include, as one tree; the meaning of other keys is not known here."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from forkd import smallfile
from forkd.config.problems import Place, Problem, Unreadable
from forkd.config.tree import Node, Source, compose
from forkd.config.written import Text, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forkd.config.problems import Problems

LONGEST_FILE = 1 << 20
LONGEST_TOGETHER = 4 << 20
MOST_FILES = 100
_GLOB_CHARACTERS = "*?["


def gather(path: str, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """Return the tree of the file at `path` and of all that it includes; None where even that cannot be read.

    `services` of all files are one mapping, any other key stands in one of them. Mistakes go to `problems`.
    """
    reading = _Reading(environ, problems)
    reading.file(path, Place(0, path))
    return reading.root


def decode(data: bytes) -> str:
    """Return the text of a file. Raises ValueError with a sentence for anything but UTF-8 without NULs."""
    if b"\0" in data:
        raise ValueError("not a text file: it holds NUL bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not a text file: line {line} is not UTF-8") from None


class _Reading:
    """One reading of a configuration; `root` is the tree of all files so far."""

    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self.root: Node | None = None
        self._environ = environ
        self._problems = problems
        self._seen: dict[tuple[int, int], Place] = {}  # files, and where each was asked for
        self._open: list[tuple[int, int]] = []  # those whose includes are being read
        self._bytes = 0

    def file(self, path: str, asked: Place) -> None:
        """Read a file that was asked for at `asked`, then those it includes."""
        included = () if self.root is None else ("include",)
        shown = f"{path}: " if included else ""
        try:
            file = self._admit(smallfile.read(path, LONGEST_FILE), asked)
            source = Source(path, decode(file.data), os.path.dirname(os.path.abspath(path)), len(self._seen) - 1)
        except ValueError as error:
            self._problems.add(Problem(asked, included, f"{shown}{error}"))
            return
        self._open.append(file.identity)
        for pattern in self._take(source):
            self._include(source, pattern)
        self._open.pop()

    def _admit(self, file: smallfile.File, asked: Place) -> smallfile.File:
        if file.identity in self._open:
            raise ValueError("includes itself" if file.identity == self._open[-1] else "includes itself over others")
        if file.identity in self._seen:
            raise ValueError(f"included twice; first at {self._seen[file.identity]}")
        self._bytes += len(file.data)
        if len(self._seen) >= MOST_FILES:
            raise ValueError(f"more than {MOST_FILES} files")
        if self._bytes > LONGEST_TOGETHER:
            raise ValueError("all files together are larger than 4 MiB")
        self._seen[file.identity] = asked
        return file

    def _take(self, source: Source) -> list[Node]:
        """Add a file's tree to that of all; return what it includes."""
        try:
            node = compose(source, self._environ, self._problems)
        except Unreadable as error:
            self._problems.add(error.problem)
            return []
        if node is None:
            self._problems.add(Problem(source.place(), (), "is empty; expected a mapping with services"))
            return []
        if not isinstance(node.value, dict):
            self._problems.add(Problem(node.place, (), f"expected a mapping with services, got {show(node.value)}"))
            return []
        self.root = node if self.root is None else self._join(self.root, node)
        return list(self._patterns(node))

    def _join(self, root: Node, node: Node) -> Node:
        """Return the tree of all files with one more; what stands in two of them is told, and the first one holds."""
        values, keys = dict(root.value), dict(root.keys)
        for key, child in node.value.items():
            both = key == "services" and isinstance(child.value, dict)
            if key not in values:
                values[key], keys[key] = child, node.keys[key]
            elif both and isinstance(values[key].value, dict):
                values[key] = self._join_services(values[key], child)
            elif key != "include":
                self._twice(("services",) if both else (key,), node.keys[key], keys[key])
        return root._replace(value=values, keys=keys)

    def _join_services(self, one: Node, other: Node) -> Node:
        for name in one.value.keys() & other.value.keys():
            self._twice(("services", name), other.keys[name], one.keys[name])
        return one._replace(value={**one.value, **other.value, **one.value}, keys={**other.keys, **one.keys})

    def _twice(self, path: tuple[str, ...], place: Place, first: Place) -> None:
        self._problems.add(Problem(place, path, f"defined twice; first at {first}"))

    def _patterns(self, node: Node) -> Iterator[Node]:
        include = node.value.get("include")
        if include is None:
            return
        items = include.value if isinstance(include.value, list) else [include]
        for number, item in enumerate(items):
            if isinstance(item.value, Text) and item.value:
                yield item
            else:
                path = ("include", number) if item is not include else ("include",)
                text = f"expected a path or a pattern of paths, got {show(item.value)}"
                self._problems.add(Problem(item.place, path, text))

    def _include(self, source: Source, pattern: Node) -> None:
        folder = os.path.dirname(source.file)
        if not any(character in pattern.value for character in _GLOB_CHARACTERS):
            self.file(os.path.join(folder, pattern.value), pattern.place)
            return
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), pattern.value))):
            self.file(path, pattern.place)
