"""What an engine must offer a thread group, and what both speak of: threads, events, tasks; it starts nothing."""

from __future__ import annotations

import gc
import logging
import os
import sys
from _thread import get_native_id
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import select
    from collections.abc import Callable
    from types import FrameType

_log = logging.getLogger("forkd.threadgroup")


def is_patched() -> bool:
    """Tell whether eventlet has patched this process, by whose hand ever."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and patcher.is_monkey_patched("thread")


class Stopped(BaseException):
    """Raised in a thread's wait when the thread is asked to stop at once; no `except Exception` holds it up."""


def passes(error: BaseException) -> bool:
    """Tell whether nobody may keep an exception: it ends the thread from outside, by its group, a kill or Ctrl-C.

    All others are failures of the code that runs, also those that are no `Exception`, such as `eventlet.Timeout`.
    """
    if isinstance(error, KeyboardInterrupt):
        return get_native_id() == os.getpid()  # no other thread hears of Ctrl-C: there it is the code's own
    greenlet = sys.modules.get("greenlet")
    killed = greenlet is not None and isinstance(error, greenlet.GreenletExit)
    return killed or isinstance(error, Stopped)


def is_ready(poller: select.poll, fd: int, events: int) -> bool:
    """Tell by a new `poller`, for eventlet hides what makes one, whether `fd` is ready now, or has failed."""
    poller.register(fd, events)
    return bool(poller.poll(0))


def frames_of_others() -> dict[int, FrameType]:
    """Return the innermost frame of each native thread but the calling one, by the threads' idents; it never blocks."""
    collects = gc.isenabled()
    # Before Python 3.11.9 a collection in the midst of it can stop the process for good: what it finalises gives way to
    # a thread that keeps the interpreter's lock and waits for that on the list of threads, which is held there.
    gc.disable()
    try:
        frames = sys._current_frames()  # noqa: SLF001 -- the documented way
    finally:
        if collects:
            gc.enable()
    mine = sys._getframe()  # noqa: SLF001 -- as above
    return {ident: frame for ident, frame in frames.items() if frame is not mine}


class Event(Protocol):
    """A latch between threads of one engine: once set it stays set."""

    def set(self) -> None:
        """Wake every thread that waits, now and from now on."""

    def is_set(self) -> bool:
        """Tell whether it has been set."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is set. Raise `Stopped` when stopped."""


class Slots(Protocol):
    """A counter that blocks at zero; `free` is what it stands at."""

    free: int

    def acquire(self, blocking: bool = True) -> bool:
        """Take one; wait for it, or return False at once when not `blocking`."""

    def release(self) -> None:
        """Give one back."""


class Thread(Protocol):
    """One thread of a group: it has ended exactly when `done` is true, and nothing of it runs after that."""

    @property
    def name(self) -> str:
        """The name of the function that it runs."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""

    @property
    def stop_event(self) -> Event:
        """Set when this thread is asked to stop."""

    def stop(self) -> None:
        """Ask it to stop: `Stopped` is raised in its current or next wait. Return at once.

        A green thread cannot help but wait sooner or later, and every wait counts. A native one is reached in the
        waits of its group (`sleep`, `event().wait`, `wait_readable`, `wait`), elsewhere it goes on.
        """

    def interrupt(self, error: BaseException, still: Callable[[], bool]) -> None:
        """Raise `error` in what a green thread waits for, if `still` says so in that moment; return at once.

        It goes on afterwards, unlike one that is stopped. A native thread is not reached.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; return whether it has. What it raised was logged."""

    def stack(self) -> str:
        """Return its Python stack, the innermost call last; empty when it runs nothing. For other threads to call."""

    def start(self) -> None:
        """Begin; for the group alone."""


class Engine(ABC):
    """How threads are made and how they wait. Its objects are shared by all groups of the process."""

    concurrency: str

    @abstractmethod
    def prepare(self) -> None:
        """See `forkd.threadgroup.prepare`."""

    @abstractmethod
    def after_fork(self) -> None:
        """See `forkd.threadgroup.after_fork`."""

    @abstractmethod
    def check(self) -> None:
        """Raise `ForkdError` unless this process is fit for the engine."""

    @abstractmethod
    def strays(self) -> list[str]:
        """See `forkd.threadgroup.strays`."""

    @abstractmethod
    def suspended(self) -> list[tuple[str, FrameType]]:
        """See `forkd.threadgroup.suspended`."""

    @abstractmethod
    def thread(self, task: Task, on_end: Callable[[Thread], object]) -> Thread:
        """Return a thread that is yet to start; `on_end` is called in it as the last thing."""

    @abstractmethod
    def current(self) -> Thread | None:
        """Return the calling thread, or None when no group made it."""

    @abstractmethod
    def event(self) -> Event:
        """Return a new event."""

    @abstractmethod
    def slots(self, count: int) -> Slots:
        """Return a new counter that starts at `count`."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass; raise `Stopped` when the thread is stopped."""

    @abstractmethod
    def wait_readable(self, fd: int, timeout: float | None = None) -> bool:
        """Wait until `fd` can be read or has failed, at most `timeout` seconds; return whether. Raise `Stopped`."""

    @abstractmethod
    def is_writable(self, fd: int) -> bool:
        """Tell whether `fd` takes something at this moment, or has failed; never waits."""


class Task:
    """What a thread runs: a function and its arguments; only Ctrl-C and a green thread's kill leave its `run`."""

    __slots__ = ("_name", "args", "fn", "kwargs")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None = None
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self._name = name

    @property
    def name(self) -> str:
        """The function's name, for logs and stack dumps; worked out only when somebody asks."""
        return self._name or getattr(self.fn, "__qualname__", None) or type(self.fn).__name__

    def run(self) -> None:
        """Call the function; log what it raises."""
        try:
            self.fn(*self.args, **self.kwargs)
        except Stopped:
            _log.debug("thread %s was stopped", self.name)
        except SystemExit as exit_:
            _log.warning("thread %s called sys.exit(%r): only the thread ends", self.name, exit_.code)
        except BaseException as error:
            if passes(error):
                raise
            _log.exception("thread %s failed", self.name)  # whoever made the thread does not wait for it
