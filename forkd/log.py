"""The log's lines: how all of them look, and the launcher's own, which never block, raise or buffer, whoever reads."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Environment variables: how the processes of a launcher are to log.
LEVEL_VARIABLE, FORMAT_VARIABLE = "FORKD_LOG_LEVEL", "FORKD_LOG_FORMAT"
STDERR = 2
# poll(2) calls a pipe writable when a whole page fits, and a socket when far more does: more at once could block.
LIMIT = 4096  # bytes of one message, all of its lines
LINES = 40
PARAGRAPHS = 100
LINE_LIMIT = 1000  # bytes of one among several
_GAP = 200  # bytes kept for the line that stands for those left out
_PRIORITIES = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7))  # from which level on which one of syslog's, sd-daemon(3)


class Log:
    """Lines that begin as `head` says, or JSON objects; what cannot be written at once is dropped and counted.

    The count is said before the next line that can be written.
    """

    __slots__ = ("_fd", "_format", "_journal", "_poll", "_threshold", "dropped")

    def __init__(self, level: str = "info", format: str = "text", fd: int = STDERR) -> None:
        self.dropped = 0
        self._fd = fd
        self._journal = is_journal(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.set(level, format)

    def set(self, level: str, format: str) -> None:
        """Write lines of `level` (debug, info, warning, error) and above from now on, as `text` or as `json`."""
        self._threshold, self._format = LEVELS[level], format

    def debug(self, text: str, origin: str = "launcher") -> None:
        """Write what only somebody who debugs forkd wants to know."""
        self.write("debug", text, origin)

    def info(self, text: str, origin: str = "launcher") -> None:
        """Write what happened as it should."""
        self.write("info", text, origin)

    def warning(self, text: str, origin: str = "launcher") -> None:
        """Write what went wrong and is being dealt with."""
        self.write("warning", text, origin)

    def error(self, text: str, origin: str = "launcher") -> None:
        """Write what went wrong and needs somebody's hand."""
        self.write("error", text, origin)

    def write(self, level: str, text: str, origin: str = "launcher", **fields: Any) -> None:
        """Write the lines of `text`, at once and no more than there is room for: of many the first and the last ones.

        Of a text for people each paragraph is a message of its own: one may be the stacks of many threads. Control
        characters are escaped, since workers have a say in it. `fields` are for JSON alone.
        """
        if LEVELS[level] < self._threshold:
            return
        if self.dropped and self._put("warning", [f"{self.dropped} lines lost: stderr took no more"], "launcher", {}):
            self.dropped = 0
        *early, last = text.split("\n\n", PARAGRAPHS - 1 if self._format == "text" else 0)
        for paragraph in (*(f"{each}\n\n" for each in early), last):
            lines = paragraph.splitlines() or [""]
            if not self._put(level, lines, origin, fields):
                self.dropped += len(lines)

    def _put(self, level: str, lines: list[str], origin: str, fields: dict[str, Any]) -> bool:
        at, mark = stamp(time.time()), priority(LEVELS[level]) if self._journal else ""
        if self._format == "json":
            raw = as_object(mark, {"at": at, "level": level, "origin": origin, **fields}, lines)
        else:
            raw = _text(f"{mark}{origin}: " if mark else head(at, level, origin), lines)
        with contextlib.suppress(OSError):  # the reader went away: nobody is left to be told
            if [event for _, event in self._poll.poll(0) if event & select.POLLOUT]:
                return os.write(self._fd, raw) == len(raw)
        return False


def _text(head: str, lines: list[str]) -> bytes:
    def line(text: str, limit: int) -> bytes:
        return (head + printable(text)).encode(errors="backslashreplace")[: limit - 1] + b"\n"

    return b"".join(_clipped(line, lines, LIMIT))


def as_object(mark: str, body: dict[str, Any], lines: list[str]) -> bytes:
    """Return the JSON object `body` with the lines as its `text`, after what marks it for the journal.

    It is a line of LIMIT bytes at most, which no other writer's tears, pipe(7).
    """
    start = mark + json.dumps(body, separators=(",", ":"))[:-1] + ',"text":"'
    end = '"}\n'
    text = b"".join(_clipped(_escaped, lines, LIMIT - len(start) - len(end)))
    return start.encode() + text[: -len(r"\n")] + end.encode()


def _escaped(text: str, limit: int) -> bytes:
    """Return as much of the text as JSON says in `limit` bytes, and the end of a line."""
    whole, room = json.dumps(text + "\n"), limit + len('""')
    while len(whole) > room:
        text = text[: len(text) * room // len(whole)]
        whole = json.dumps(text + "\n")
    return whole[1:-1].encode()


def _clipped(write: Callable[[str, int], bytes], lines: list[str], limit: int) -> list[bytes]:
    """Return the lines in `limit` bytes, each as `write` gives it in how many it may have.

    Of too many they are a few first ones and, since a cause stands last, the last.
    """
    if len(lines) == 1:
        return [write(lines[0], limit)]
    if len(lines) <= LINES:
        whole = [write(line, LINE_LIMIT) for line in lines]
        if sum(map(len, whole)) <= limit:
            return whole
    first = _fitting((write(line, LINE_LIMIT) for line in lines[: LINES // 4]), limit // 4 + _GAP)
    room = limit - _GAP - sum(map(len, first))
    rest = lines[len(first) :][-(LINES - len(first) - 1) :]
    last = _fitting((write(line, LINE_LIMIT) for line in reversed(rest)), room)[::-1]
    gap = write(f"… {len(lines) - len(first) - len(last)} more lines", _GAP)
    return [*first, gap, *last]


def _fitting(lines: Iterable[bytes], room: int) -> list[bytes]:
    """Return as many of the lines as there is room for, from the first one on."""
    fitting: list[bytes] = []
    for line in lines:
        room -= len(line)
        if room < 0:
            break
        fitting.append(line)
    return fitting


def head(at: str, level: str, origin: str) -> str:
    """Return what stands before each line of a text that is not for the journal."""
    return f"{at} {level.upper():<5} {origin}: "


def priority(level: int) -> str:
    """Return what tells the journal how much a line matters, and is not shown; levels as `logging` numbers them."""
    return f"<{next(number for least, number in _PRIORITIES if level >= least)}>"


def is_journal(fd: int) -> bool:
    """Tell whether the journal reads what is written there: JOURNAL_STREAM names the file, systemd.exec(5)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def share(level: str, format: str) -> None:
    """Have the processes that are started from now on log at this level and in this format."""
    os.environ[LEVEL_VARIABLE], os.environ[FORMAT_VARIABLE] = level, format


def keep_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed: the next file opened would take its place."""
    for number in range(STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one


def say(text: str, end: str = "\n") -> None:
    """Tell whoever started a command, on stderr. One that is closed, gone or full is no reason to end otherwise."""
    if sys.stderr:  # print takes None for stdout
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)  # noqa: T201 -- here and nowhere else


def stamp(seconds: float) -> str:
    """Return a time of the wall clock (seconds since 1970) as ISO 8601 in UTC, to the millisecond."""
    whole, fraction = divmod(seconds, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"


def printable(text: str) -> str:
    """Return `text` with each control character as an escape: it may come from a worker and go to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
