"""Rows of text in aligned columns, and numbers as people read them; it knows nothing of what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkd.log import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Paint = Callable[[str, str], str]

_CODES = {"green": "32", "yellow": "33", "red": "31"}
_LONGEST = 160


class Cell(NamedTuple):
    """One field: its text, a colour where that says something, and the side it is aligned to."""

    text: str
    colour: str | None = None
    right: bool = False


def lines(heads: Sequence[str], rows: Sequence[Sequence[Cell]], paint: Paint) -> Iterable[str]:
    """Yield the heads and the rows, aligned; what colours them adds no width."""
    widths = [max(len(head), *(len(row[n].text) for row in rows)) for n, head in enumerate(heads)]
    titles = [Cell(head, right=rows[0][n].right) for n, head in enumerate(heads)]
    for row in (titles, *rows):
        yield "  ".join(_field(cell, width, paint) for cell, width in zip(row, widths, strict=True)).rstrip()


def coloured(text: str, colour: str) -> str:
    """Paint for a terminal."""
    return f"\033[{_CODES[colour]}m{text}\033[0m"


def plain(text: str, _colour: str) -> str:
    """Paint for a pipe: none."""
    return text


def number(value: int | None) -> Cell:
    """Return a number's field; a dash for what nobody knows."""
    return Cell("-" if value is None else str(value), right=True)


def duration(seconds: float | None) -> str:
    """Return seconds as `0.4s`, `12s`, `3m 5s`, `2h 7m`, `5d 3h`."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, step, below, small in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= step:
            return f"{int(seconds // step)}{unit} {int(seconds % step // small)}{below}"
    return f"{int(seconds)}s"


def size(count: int | None) -> str:
    """Return bytes as `512K`, `30.0M`, `1.5G`."""
    if count is None:
        return "-"
    for unit, step in (("G", 1 << 30), ("M", 1 << 20)):
        if count >= step:
            return f"{count / step:.1f}{unit}"
    return f"{count >> 10}K"


def one_line(text: str) -> str:
    """Return text from elsewhere so that it breaks no table and no terminal."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _field(cell: Cell, width: int, paint: Paint) -> str:
    text = cell.text.rjust(width) if cell.right else cell.text.ljust(width)
    return text.replace(cell.text, paint(cell.text, cell.colour), 1) if cell.colour else text
