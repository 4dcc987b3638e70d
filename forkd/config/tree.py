"""YAML text to a tree of values that know their places; what the values mean is not known here.

It builds the tree from the parser's events and not with yaml's own loader, because so every bound
(depth, nodes after the expansion of aliases) holds while reading, and nothing but plain data comes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from forkd.config.problems import Path, Place, Problem, Problems, Unreadable
from forkd.config.scalars import Scalars

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 32
MOST_NODES = 50_000
TOO_DEEP = f"nested deeper than {DEEPEST} levels"
TOO_MANY = f"more than {MOST_NODES} values, counted with what aliases stand for"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_MERGE = "<<"
BROKEN = object()  # the value of a scalar that was told as a problem


class Node(NamedTuple):
    """A value, its place, how many nodes it stands for once aliases are expanded, and how deep it nests.

    The value of a mapping is a dict of Nodes, with the places of its keys in `keys`; that of a list a list of Nodes.
    """

    place: Place
    value: Any
    size: int = 1
    height: int = 1
    keys: Mapping[str, Place] = {}


class Source(NamedTuple):
    """One file's text; `order` is its place among all that are read, `folder` what relative paths in it start at."""

    file: str
    text: str
    folder: str = "."
    order: int = 0

    def place(self, line: int = -1, column: int = -1) -> Place:
        """Return a place in this file; line and column counted from 0."""
        return Place(self.order, self.file, line + 1, column + 1)

    def at(self, offset: int) -> Place:
        """Return the place of a character of the text."""
        before = self.text[:offset]
        return self.place(before.count("\n"), offset - (before.rfind("\n") + 1))

    def of(self, event: Any) -> Place:
        """Return where a YAML event starts."""
        return self.place(event.start_mark.line, event.start_mark.column)


def compose(source: Source, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """Return the tree of a text, None for an empty one. Mistakes that let reading go on are added to `problems`.

    Raises Unreadable for what ends it: bad syntax, bad characters, too deep, too many nodes.
    """
    if found := _UNPRINTABLE.search(source.text):
        raise Unreadable(source.at(found.start()), f"not a text file: it holds the character U+{ord(found[0]):04X}")
    composer = _Composer(source, environ, problems)
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = source.place(mark.line, mark.column) if mark else source.place()
        raise Unreadable(place, f"not valid YAML: {error.problem or error.context}") from None
    except (ValueError, OverflowError):  # yaml lets them out for escapes such as "\Uffffffff"
        raise Unreadable(source.place(), "not valid YAML: an escape names a character that does not exist") from None


def plain(node: Node) -> Any:
    """Return the bare dicts, lists and scalars of a tree, without what is broken."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items() if child.value is not BROKEN}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value if child.value is not BROKEN]
    return node.value


def find(root: Node, path: Path) -> Node:
    """Return the node at `path`, or the nearest one above it that exists."""
    node = root
    for part in path:
        known = (isinstance(node.value, dict) and part in node.value) or (
            isinstance(node.value, list) and isinstance(part, int) and part < len(node.value)
        )
        if not known:
            break
        node = node.value[part]
    return node


def key_place(root: Node, path: Path) -> Place:
    """Return where the last key of `path` stands; where that cannot be, the place of what is nearest."""
    parent = find(root, path[:-1])
    return parent.keys.get(str(path[-1]), parent.place) if path else root.place


class _Composer:
    """One reading of one text; `path` is where it is."""

    def __init__(self, source: Source, environ: Mapping[str, str], problems: Problems) -> None:
        self.source = source
        self.scalars = Scalars(environ, source.folder)
        self.problems = problems
        self.events: Iterator[Any] = yaml.parse(source.text, Loader=yaml.SafeLoader)
        self.anchors: dict[str, Node | None] = {}  # None: still being read, so an alias to it would never end
        self.path: list[str | int] = []
        self.read = 0  # nodes, aliases not expanded

    def document(self) -> Node | None:
        root = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Unreadable(self.source.of(event), "expected one YAML document, found a second one")
                root = self.node(next(self.events))
        return root

    def node(self, event: Any) -> Node:
        place = self.source.of(event)
        self.read += 1
        if self.read > MOST_NODES:
            raise Unreadable(place, TOO_MANY)
        if len(self.path) >= DEEPEST:
            raise Unreadable(place, TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place)
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, place)
        else:
            node = self.mapping(event, place)
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def alias(self, event: Any, place: Place) -> Node:
        if event.anchor not in self.anchors:
            raise Unreadable(place, f'not valid YAML: the alias "*{event.anchor}" has no anchor before it')
        node = self.anchors[event.anchor]
        if node is None:
            raise Unreadable(place, f'the alias "*{event.anchor}" is part of what it stands for')
        if len(self.path) + node.height > DEEPEST:
            raise Unreadable(place, TOO_DEEP)
        return node

    def scalar(self, event: Any, place: Place) -> Node:
        try:
            return Node(place, self.scalars.read(event))
        except ValueError as error:
            self.problems.add(Problem(place, tuple(self.path), str(error)))
            return Node(place, BROKEN)

    def sequence(self, event: Any, place: Place) -> Node:
        self.check_tag(event, place, "seq")
        children: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            children.append(self.child(len(children), event))
        return self.parent(place, children, children)

    def mapping(self, event: Any, place: Place) -> Node:
        self.check_tag(event, place, "map")
        children: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            at, key = self.source.of(event), self.key(event)
            child = self.child(key, next(self.events))
            if key == _MERGE and event.implicit[0]:
                merged += self.merged(child)
            elif key in keys:
                text = f"given twice; first at line {keys[key].line}"
                self.problems.add(Problem(at, (*self.path, key), text))
            else:
                children[key], keys[key] = child, at
        for node in merged:
            children = {**node.value, **children}
            keys = {**node.keys, **keys}
        return self.parent(place, children, list(children.values()))._replace(keys=keys)

    def key(self, event: Any) -> str:
        place = self.source.of(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise Unreadable(place, "expected a string as key", tuple(self.path))
        if event.anchor is not None:
            self.anchors[event.anchor] = Node(place, event.value)
        return str(event.value)

    def merged(self, node: Node) -> list[Node]:
        """Return the mappings that a `<<` names, the one that counts least last."""
        nodes = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(child.value, dict) for child in nodes):
            text = "expected a mapping or a list of mappings to merge"
            self.problems.add(Problem(node.place, (*self.path, _MERGE), text))
            return []
        return list(nodes)

    def child(self, key: str | int, event: Any) -> Node:
        self.path.append(key)
        node = self.node(event)
        self.path.pop()
        return node

    def parent(self, place: Place, value: Any, children: list[Node]) -> Node:
        size = 1 + sum(child.size for child in children)
        if size > MOST_NODES:
            raise Unreadable(place, TOO_MANY)
        return Node(place, value, size, 1 + max((child.height for child in children), default=0))

    def check_tag(self, event: Any, place: Place, name: str) -> None:
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{name}"):
            self.problems.add(Problem(place, tuple(self.path), f"the tag {event.tag} is not known here"))
