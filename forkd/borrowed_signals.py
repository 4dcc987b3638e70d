"""The signals of a process that is not forkd's own: taken for a while, and given back as they were."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

from forkd.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """TERM came while a service started: of its parent's kind, for that is what no thread and no hub holds up."""


def waker() -> Waker:
    """Return what wakes the calling thread: the main one may borrow signals by it, another cannot."""
    is_main_thread = threading.get_native_id() == os.getpid()  # that of a green thread is its hub's
    return _Borrowed() if is_main_thread else Waker()


class Waker(Signals):
    """What wakes the thread that waits: in another than the main one Python handles no signals, so `wake` alone.

    It is closed when nobody has it any more, for whoever calls `wake` cannot know that the wait is over.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let INT and TERM raise in the block, whose code may hang; borrow all signals when it is done."""
        yield

    def borrow(self) -> None:
        """Take the signals for a while."""

    def give_back(self) -> None:
        """Let every signal be handled as before."""


class _Borrowed(Waker):
    """The process's signals, with whom to give them back to."""

    __slots__ = ("_before", "_wakeup_before")

    def __init__(self) -> None:
        super().__init__()
        self._before = {number: signal.getsignal(number) for number in _TAKEN}
        self._wakeup_before = signal.set_wakeup_fd(-1)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _terminate)
        yield
        self.borrow()

    def borrow(self) -> None:
        self.install(_TAKEN)
        self.overhear(signal.SIGUSR1)

    def give_back(self) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: C code had installed it


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
