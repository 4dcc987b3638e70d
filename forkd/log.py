"""The launcher's own lines on stderr; it must never block, raise or buffer, whoever reads them or does not."""

from __future__ import annotations

import contextlib
import os
import select
import time

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
STDERR = 2
# poll(2) calls a pipe writable when a whole page fits, and a socket when far more does: more at once could block.
LIMIT = 4096  # bytes of one message, all of its lines
LINES = 40
LINE_LIMIT = 1000  # bytes of one among several
_GAP = 200  # bytes kept for the line that stands for those left out


class Log:
    """Lines `2026-01-01T00:00:00.123Z INFO  origin: text`; one that cannot be written at once is dropped and counted.

    The count is said before the next line that can be written.
    """

    __slots__ = ("_fd", "_poll", "_threshold", "dropped")

    def __init__(self, level: str = "info", fd: int = STDERR) -> None:
        self.dropped = 0
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write lines of `level` (debug, info, warning, error) and above from now on."""
        self._threshold = LEVELS[level]

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

    def write(self, level: str, text: str, origin: str = "launcher") -> None:
        """Write the lines of `text`, at once and no more than there is room for: of many the first and the last ones.

        Control characters are escaped, since workers have a say in the text.
        """
        if LEVELS[level] < self._threshold:
            return
        if self.dropped and self._put("warning", [f"{self.dropped} lines lost: stderr took no more"], "launcher"):
            self.dropped = 0
        lines = text.splitlines() or [""]
        if not self._put(level, lines, origin):
            self.dropped += len(lines)

    def _put(self, level: str, lines: list[str], origin: str) -> bool:
        raw = _message(head(stamp(time.time()), level, origin), lines)
        with contextlib.suppress(OSError):  # the reader went away: nobody is left to be told
            if [event for _, event in self._poll.poll(0) if event & select.POLLOUT]:
                return os.write(self._fd, raw) == len(raw)
        return False


def _message(head: str, lines: list[str]) -> bytes:
    """Return the lines in LIMIT bytes: of too many a few first ones and, since a cause stands last, the last."""
    if len(lines) == 1:
        return _line(head, lines[0], LIMIT)
    if len(lines) <= LINES:
        whole = b"".join(_line(head, line, LINE_LIMIT) for line in lines)
        if len(whole) <= LIMIT:
            return whole
    first = _fitting([_line(head, line, LINE_LIMIT) for line in lines[: LINES // 4]], LIMIT // 4 + _GAP)
    room = LIMIT - _GAP - sum(map(len, first))
    rest = lines[len(first) :][-(LINES - len(first) - 1) :]
    last = _fitting([_line(head, line, LINE_LIMIT) for line in reversed(rest)], room)[::-1]
    gap = _line(head, f"… {len(lines) - len(first) - len(last)} more lines", _GAP)
    return b"".join([*first, gap, *last])


def _line(head: str, text: str, limit: int) -> bytes:
    return (head + printable(text)).encode(errors="backslashreplace")[: limit - 1] + b"\n"


def _fitting(lines: list[bytes], room: int) -> list[bytes]:
    """Return as many of the lines as there is room for, from the first one on."""
    fitting: list[bytes] = []
    for line in lines:
        room -= len(line)
        if room < 0:
            break
        fitting.append(line)
    return fitting


def head(at: str, level: str, origin: str) -> str:
    """Return what stands before each line of a message."""
    return f"{at} {level.upper():<5} {origin}: "


def keep_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed: the next file opened would take its place."""
    for number in range(STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one


def stamp(seconds: float) -> str:
    """Return a time of the wall clock (seconds since 1970) as ISO 8601 in UTC, to the millisecond."""
    whole, fraction = divmod(seconds, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"


def printable(text: str) -> str:
    """Return `text` with each control character as an escape: it may come from a worker and go to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
