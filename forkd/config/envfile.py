"""A file of NAME=VALUE lines as systemd.exec(5) has them for `EnvironmentFile=`; whatever it holds, no message tells.

Unlike there, what cannot be understood is a mistake: it would else be a variable that is missing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from forkd import smallfile
from forkd.config.files import LONGEST_FILE, decode
from forkd.config.problems import Problem
from forkd.config.tree import Source

if TYPE_CHECKING:
    from forkd.config.problems import Path, Place, Problems

_NOTHING = re.compile(r"(?:[ \t\r\n]+|[#;][^\r\n]*)*")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
_SPACE = re.compile(r"[ \t]*")
_SINGLE = re.compile(r"'(?P<text>[^']*)'")
_DOUBLE = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"(?P<text>(?:[^\\ \t\r\n]|\\.|[ \t]+(?=[^ \t\r\n]))*)(?:\\\Z)?[ \t]*", re.DOTALL)
_LINE = re.compile(r"[^\r\n]*")


_MOST_MISTAKES = 20  # of what is some other file


class Mistake(NamedTuple):
    """What is wrong at an offset of the text."""

    offset: int
    text: str


def read(path: str, key: Path, asked: Place, problems: Problems) -> dict[str, str]:
    """Return the variables of the file at `path`, for which `key` asks at `asked`; mistakes go to `problems`."""
    try:
        source = Source(path, decode(smallfile.read(path, LONGEST_FILE).data), order=asked.order)
    except ValueError as error:
        problems.add(Problem(asked, key, f"{path}: {error}"))
        return {}
    variables, mistakes = parse(source.text)
    for mistake in mistakes:
        problems.add(Problem(source.at(mistake.offset), key, mistake.text))
    return variables


def parse(text: str) -> tuple[dict[str, str], list[Mistake]]:
    """Return the variables of a file, of those given twice the later ones, and the first things not understood."""
    variables: dict[str, str] = {}
    mistakes: list[Mistake] = []
    at = _end(_NOTHING, text, 0)
    while at < len(text) and len(mistakes) < _MOST_MISTAKES:
        if name := _NAME.match(text, at):
            value, at = _value(text, name.end())
            if value is not None:
                variables[name["name"]] = value
            else:
                mistakes.append(Mistake(at, "a quote that is never closed"))
                break
        else:
            mistakes.append(Mistake(at, "expected NAME=VALUE, or a comment that begins with #"))
            at = _end(_LINE, text, at)
        at = _end(_NOTHING, text, at)
    return variables, mistakes


def _value(text: str, at: int) -> tuple[str | None, int]:
    """Return the value that starts at an offset, and where it ends; None, and where, for a quote that is not closed.

    Quoted parts, which may span lines, and what follows them unquoted are one value, without the space between.
    """
    parts = []
    at = _end(_SPACE, text, at)
    while text[at : at + 1] in ("'", '"'):
        single = text[at] == "'"
        found = (_SINGLE if single else _DOUBLE).match(text, at)
        if not found:
            return None, at
        parts.append(found["text"] if single else re.sub(r'\\(?:(["\\`$])|\n)', r"\1", found["text"]))
        at = _end(_SPACE, text, found.end())
    bare = _BARE.match(text, at)
    assert bare  # noqa: S101 -- it matches nothing, too
    parts.append(re.sub(r"\\(?:[\r\n]|(.))", r"\1", bare["text"], flags=re.DOTALL))
    return "".join(parts), bare.end()


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
