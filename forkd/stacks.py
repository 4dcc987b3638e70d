"""A worker's stacks, of all its threads, native and green: in its scoreboard for the launcher, or on stderr.

A worker that is well shows them by Python code, while all other threads wait for the interpreter's lock. faulthandler
needs no interpreter and takes no lock, so a thread that begins or ends while it looks can crash the process. It is for
those that cannot answer (DUMP) and those that end (ABRT, a crash). None of it blocks or raises.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import posix  # its `write` is the plain one in a process where eventlet has replaced that of `os`
import signal
import threading
from collections import Counter
from select import POLLOUT, poll  # eventlet takes it away from `select`
from typing import TYPE_CHECKING

from forkd import log, threadgroup
from forkd.core.commands import DUMP, STACKS
from forkd.errors import ChannelClosed, ProtocolError
from forkd.scoreboard import TAIL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from forkd.channel import Channel

_DEEPEST = 100  # frames of a thread, as faulthandler has it
_LAST_LINE = 64  # bytes kept for it


class Stacks:
    """Shows them when a signal asks. The tail of the scoreboard holds what could not be sent, or was dumped."""

    __slots__ = ("_concurrency", "_fd", "_start", "_to")

    def __init__(self, board: int, to: Channel, concurrency: str) -> None:
        """Dump to the tail of `board`, whose descriptor stays the caller's, and tell by the channel `to`."""
        self._fd = os.dup(board)
        self._start = os.lseek(self._fd, -TAIL, os.SEEK_END)
        self._to = to
        self._concurrency: str | None = concurrency

    def install(self) -> None:
        """Heed ABRT and every crash, DUMP, STACKS and USR2 from now on; in the main thread."""
        faulthandler.disable()  # to stderr, as the zygote has it
        signal.signal(signal.SIGABRT, self._abort)
        faulthandler.enable(file=self._fd)
        faulthandler.register(DUMP, file=self._fd)
        signal.signal(STACKS, self._send)
        signal.signal(signal.SIGUSR2, self._print)

    def let_go(self) -> None:
        """In a fork that is no worker: show nothing to the launcher, and no green threads, which are the worker's."""
        signal.signal(STACKS, signal.SIG_DFL)
        faulthandler.unregister(DUMP)
        signal.signal(DUMP, signal.SIG_DFL)
        faulthandler.disable()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        faulthandler.enable(file=log.STDERR)
        self._concurrency = None
        os.close(self._fd)

    def _abort(self, _number: int, _frame: FrameType | None) -> None:
        """Add to what faulthandler has written of the native threads."""
        try:
            with contextlib.suppress(Exception):  # of what is left of the worker, which ends here
                posix.write(self._fd, self._green(TAIL - self._written()))
        finally:
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGABRT)

    def _send(self, _number: int, frame: FrameType | None) -> None:
        """Send them; what cannot be sent stays in the tail, for the launcher to find."""
        with contextlib.suppress(Exception):  # whatever the signal has interrupted must not know of it
            stacks = self._all(frame)
            # First the tail is emptied of what is older: the launcher believes that there is nothing beside an answer.
            os.pwrite(self._fd, bytes(self._written()), self._start)
            os.lseek(self._fd, self._start, os.SEEK_SET)
            try:
                self._to.send({"type": "dumped", "stacks": stacks.decode()})
            except (ChannelClosed, ProtocolError):
                posix.write(self._fd, stacks)

    def _print(self, _number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(Exception):  # as above
            _write_what_fits(self._all(frame))

    def _all(self, here: FrameType | None) -> bytes:
        """Return the stacks of all threads in at most TAIL bytes; the main one, which runs this, is at `here`."""
        others = threadgroup.frames_of_others().items()
        native = _in_words("thread", [("MainThread", here), *((_name(ident), frame) for ident, frame in others)], TAIL)
        return (native + self._green(TAIL - len(native))).removeprefix(b"\n")

    def _green(self, room: int) -> bytes:
        """Return the stacks of the green threads in at most `room` bytes; of none in a fork of the worker."""
        return _in_words("green thread", threadgroup.suspended(self._concurrency), room) if self._concurrency else b""

    def _written(self) -> int:
        """Return how many bytes of the tail have been written to."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) - self._start


def _name(ident: int) -> str:
    # `threading.enumerate` takes a lock, which what the signal has interrupted may hold. Where eventlet has patched the
    # module, that has no native threads.
    thread = getattr(threading, "_active", {}).get(ident)
    return str(thread.name) if thread is not None else f"0x{ident:016x}"


def _in_words(kind: str, threads: Iterable[tuple[str, FrameType | None]], room: int) -> bytes:
    """Return the stacks of threads, each given by its name and its innermost frame, in at most `room` bytes.

    They look like faulthandler's; the most frequent come first, and those alike once. The last line says how many did
    not fit.
    """
    alike = Counter((name, _frames(frame)) for name, frame in threads)
    left = alike.total()
    text = b""
    for (name, frames), count in alike.most_common():
        many = f", {count} alike" if count > 1 else ""
        head = f"\n{kind.capitalize()} {name}{many} (most recent call first):\n"
        stack = (head + frames).encode("ascii", "backslashreplace")
        if len(text) + len(stack) + _LAST_LINE > room:
            break
        text += stack
        left -= count
    return (text + (f"\n... and {left} more {kind}s\n".encode() if left else b""))[: max(0, room)]


def _frames(frame: FrameType | None) -> str:
    """Return a line for each frame, the innermost first; without the lines of the source, which stand in files."""
    lines: list[str] = []
    while frame is not None and len(lines) < _DEEPEST:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_qualname}\n')
        frame = frame.f_back
    return "".join(lines) + ("  ...\n" if frame is not None else "")


def _write_what_fits(text: bytes) -> None:
    """Write to stderr what it takes at once; poll(2) calls a pipe writable when a page fits."""
    poller = poll()
    poller.register(log.STDERR, POLLOUT)
    while text and poller.poll(0) and (written := posix.write(log.STDERR, text[: log.LIMIT])):
        text = text[written:]
