"""The table of the kinds of news: complete, true to what the core tells, and the one that the documents show."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkd.control import kinds, words
from forkd.control.kinds import KINDS
from forkd.core.state import News

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
_OF_SERVICE = {"service"}
_OF_ONE = {"service", "slot", "id", "pid", "generation"}


def told() -> Iterator[tuple[str, set[str]]]:
    """Yield each kind that the core's sources tell, with the fields that they give it there."""
    for path in (ROOT / "forkd" / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "tell":
                kind, *subject = node.args
                named = (set(), _OF_SERVICE, _OF_ONE)[len(subject)] | {word.arg or "" for word in node.keywords}
                for constant in ast.walk(kind):
                    if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                        yield constant.value, named


def test_it_has_what_the_core_tells_and_nothing_else():
    assert {kind for kind, _ in told()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_carries_what_the_table_says(kind):
    given = next(fields for name, fields in told() if name == kind)
    sample = News(kind, **dict.fromkeys(given, "x"))  # type: ignore[arg-type]
    # Zygotes have no slot.
    assert set(kinds.fields(sample._asdict())) - {"slot"} == set(KINDS[kind].fields) - {"slot"}
    assert words.say(sample).text


def row(name: str) -> str:
    kind = KINDS[name]
    fields = " ".join(f"`{field}`" for field in kind.fields) or "–"
    levels = dict.fromkeys([kind.level, kind.badly[0] if kind.badly else kind.level])
    return f"| `{name}` | {', '.join(levels)} | {kind.when} | {fields} |"


def test_the_documents_show_it():
    rows = [line for line in (ROOT / "docs" / "events.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    assert rows == [row(kind) for kind in KINDS]
