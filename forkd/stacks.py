"""A worker's stacks, of all its threads, native and green: in its scoreboard for the launcher, or on stderr.

faulthandler's handlers are in C: they write the native threads' stacks at once, even while the interpreter is stuck,
and then call the handler that was there before. That is ours, which runs once the interpreter does, and adds the green
threads'. None of it blocks or raises.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import posix  # its `write` is the plain one in a process where eventlet has replaced that of `os`
import signal
from collections import Counter
from select import POLLOUT, poll  # eventlet takes it away from `select`
from typing import TYPE_CHECKING

from forkd import log, threadgroup
from forkd.core.commands import STACKS
from forkd.errors import ChannelClosed, ProtocolError
from forkd.scoreboard import TAIL

if TYPE_CHECKING:
    from types import FrameType

    from forkd.channel import Channel

_DEEPEST = 100  # frames of a thread, as faulthandler has it
_LAST_LINE = 64  # bytes kept for it


class Stacks:
    """Shows them when a signal asks. The tail of the scoreboard holds what has been dumped and not been sent."""

    __slots__ = ("_concurrency", "_fd", "_start", "_to")

    def __init__(self, board: int, to: Channel, concurrency: str) -> None:
        """Dump to the tail of `board`, whose descriptor stays the caller's, and tell by the channel `to`."""
        self._fd = os.dup(board)
        self._start = os.lseek(self._fd, -TAIL, os.SEEK_END)
        self._to = to
        self._concurrency = concurrency

    def install(self) -> None:
        """Heed ABRT and every crash, STACKS and USR2 from now on; in the main thread, before faulthandler is used."""
        faulthandler.disable()  # to stderr, as the zygote has it
        signal.signal(signal.SIGABRT, self._abort)
        faulthandler.enable(file=self._fd)
        signal.signal(STACKS, self._send)
        faulthandler.register(STACKS, file=self._fd, chain=True)
        signal.signal(signal.SIGUSR2, self._print)
        faulthandler.register(signal.SIGUSR2, file=log.STDERR, chain=True)
        self._interrupt_calls()

    def let_go(self) -> None:
        """In a fork that is no worker: show nothing to the launcher, and no green threads, which are the worker's."""
        faulthandler.unregister(STACKS)
        signal.signal(STACKS, signal.SIG_DFL)
        faulthandler.disable()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        faulthandler.enable(file=log.STDERR)
        faulthandler.register(signal.SIGUSR2, file=log.STDERR)
        os.close(self._fd)

    def _abort(self, _number: int, _frame: FrameType | None) -> None:
        try:
            with contextlib.suppress(Exception):  # of what is left of the worker, which ends here
                self._add_green()
        finally:
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGABRT)

    def _send(self, _number: int, _frame: FrameType | None) -> None:
        """Send what has been dumped; what cannot be sent stays there, for the launcher to find."""
        with contextlib.suppress(Exception):  # whatever the signal has interrupted must not know of it
            self._interrupt_calls()
            self._add_green()
            dumped = os.pread(self._fd, TAIL, self._start).rstrip(b"\0")
            # First the tail is emptied: whoever has an answer may ask anew, and faulthandler writes at once.
            os.pwrite(self._fd, bytes(len(dumped)), self._start)
            os.lseek(self._fd, self._start, os.SEEK_SET)
            try:
                self._to.send({"type": "dumped", "stacks": dumped.replace(b"\0", b"").decode(errors="replace")})
            except (ChannelClosed, ProtocolError):
                posix.write(self._fd, dumped)

    def _print(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(Exception):  # as above
            self._interrupt_calls()
            _write_what_fits(green_stacks(self._concurrency, TAIL))

    def _add_green(self) -> None:
        """Write the green threads' stacks to the tail, as far as there is room."""
        room = self._start + TAIL - os.lseek(self._fd, 0, os.SEEK_CUR)
        posix.write(self._fd, green_stacks(self._concurrency, room))

    def _interrupt_calls(self) -> None:
        """Have a call of the main thread that blocks give way to our handlers; faulthandler lets it be restarted.

        Each of its handlers, when it runs, installs itself anew.
        """
        for number in (STACKS, signal.SIGUSR2):
            signal.siginterrupt(number, True)


def green_stacks(concurrency: str, room: int) -> bytes:
    """Return the stacks of the green threads in at most `room` bytes, the most frequent first, and those alike once.

    They look like faulthandler's. The last line says how many did not fit.
    """
    alike = Counter(_stack(name, frame) for name, frame in threadgroup.suspended(concurrency))
    left = alike.total()
    text = b""
    for (name, frames), count in alike.most_common():
        many = f", {count} alike" if count > 1 else ""
        head = f"\nGreen thread {name}{many} (most recent call first):\n"
        stack = (head + frames).encode("ascii", "backslashreplace")
        if len(text) + len(stack) + _LAST_LINE > room:
            break
        text += stack
        left -= count
    return (text + (f"\n... and {left} more green threads\n".encode() if left else b""))[: max(0, room)]


def _stack(name: str, frame: FrameType | None) -> tuple[str, str]:
    """Return name and frames, the innermost first; without the lines of the source, which stand in files."""
    lines: list[str] = []
    while frame is not None and len(lines) < _DEEPEST:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_qualname}\n')
        frame = frame.f_back
    return name, "".join(lines) + ("  ...\n" if frame is not None else "")


def _write_what_fits(text: bytes) -> None:
    """Write to stderr what it takes at once; poll(2) calls a pipe writable when a page fits."""
    poller = poll()
    poller.register(log.STDERR, POLLOUT)
    while text and poller.poll(0) and (written := posix.write(log.STDERR, text[: log.LIMIT])):
        text = text[written:]
