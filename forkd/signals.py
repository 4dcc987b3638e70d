"""Signals as something to poll for: the handler only notes the number; it must do no work of any kind."""

from __future__ import annotations

import contextlib
import os
import posix  # its `read` and `write` are the plain ones in a process where eventlet has replaced those of `os`
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


class Signals:
    """The signals that a process takes by its event loop: none is lost, none is handled before `take` gives it.

    One per process, used from its main thread, where Python runs the handlers.
    """

    __slots__ = ("_noted", "_numbers", "_overheard", "_read", "_write")

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers: set[int] = set()
        self._overheard: set[int] = set()
        self._noted: dict[int, None] = {}  # ordered

    def install(self, numbers: Iterable[int]) -> None:
        """Take these signals from now on, beside those already taken."""
        # A full pipe needs no warning: it wakes as well as one byte, and the handler has noted the number.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in numbers:
            self._numbers.add(number)
            signal.signal(number, self._note)

    def overhear(self, number: int) -> None:
        """Give this one too, and leave it to whoever handles it, now or later; it is not heard where no Python does."""
        self._overheard.add(number)

    def fileno(self) -> int:
        """Give the descriptor that is readable when `take` has something to give."""
        return self._read

    def take(self) -> list[int]:
        """Give the signals that came since the last call, each once, in the order in which they were noted."""
        with contextlib.suppress(BlockingIOError):
            while told := posix.read(self._read, 4096):  # the number of each signal for which Python has a handler
                self._noted.update(dict.fromkeys(self._overheard.intersection(told)))
        # The byte comes before the handler has run. This call blocks nothing, and lets every handler that is due run.
        signal.pthread_sigmask(signal.SIG_BLOCK, ())
        noted, self._noted = self._noted, {}
        return list(noted)

    def wake(self) -> None:
        """Make the descriptor readable as a signal would, from any thread; `take` then has nothing to give."""
        with contextlib.suppress(BlockingIOError):  # full: it is readable
            posix.write(self._write, b"\0")

    def reset(self) -> None:
        """Let go, as a child must before it unblocks its signals: default handlers, nothing shared with the parent."""
        # The wakeup descriptor is the parent's pipe: a signal to the child would otherwise reach the parent.
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        self._numbers.clear()
        self._noted.clear()
        self.close()

    def close(self) -> None:
        """Close the pipe; nobody may be waiting for it."""
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted[number] = None


def do_nothing_on(*numbers: int) -> None:
    """Have these signals do no harm. They are not ignored: programs that this process runs would inherit that."""
    for number in numbers:
        signal.signal(number, _nothing)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold every signal back while the block runs; what came meanwhile is delivered at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
