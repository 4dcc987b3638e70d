"""The thread group itself, and what an engine must offer it; it knows no engine and starts no thread by other means."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from forkd.errors import ForkdError
from forkd.threadgroup.timers import Timer, dynamic_schedule, fixed_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger("forkd.threadgroup")


class Stopped(BaseException):
    """Raised in a thread's wait when the thread is asked to stop at once; no `except Exception` holds it up."""


class Event(Protocol):
    """A latch between threads of one engine: once set it stays set."""

    def set(self) -> None:
        """Wake every thread that waits, now and from now on."""

    def is_set(self) -> bool:
        """Tell whether it has been set."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is set. Raise `Stopped` when stopped."""


class Slots(Protocol):
    """A counter that blocks at zero."""

    def acquire(self, blocking: bool = True) -> bool:  # noqa: FBT001, FBT002 -- the signature that semaphores have
        """Take one; wait for it, or return False at once when not `blocking`."""

    def release(self) -> None:
        """Give one back."""


class Thread(Protocol):
    """One thread of a group: it has ended exactly when `done` is true, and nothing of it runs after that."""

    name: str

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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; return whether it has. What it raised was logged."""

    def start(self) -> None:
        """Begin; for the group alone."""


Ended = "Callable[[Thread], None]"


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
    def thread(self, task: Task, on_end: Callable[[Thread], None]) -> Thread:
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


class Task:
    """What a thread runs: a function and its arguments; nothing but `KeyboardInterrupt` leaves its `run`."""

    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    @property
    def name(self) -> str:
        """The function's name, for logs and stack dumps."""
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__name__

    def run(self) -> None:
        """Call the function; log what it raises."""
        try:
            self.fn(*self.args, **self.kwargs)
        except Exception:
            _log.exception("thread %s failed", self.name)
        except Stopped:
            _log.debug("thread %s was stopped", self.name)
        except SystemExit as exit_:
            _log.warning("thread %s called sys.exit(%r): only the thread ends", self.name, exit_.code)


class ThreadGroup:
    """All threads of one service; at most `limit` of those made by `add_thread` run at once, and none is forgotten.

    Timers and loops are forkd's and the server's own few, so they do not count against `limit`: a service of one
    thread can still beat, tick and accept.

    `event() -> Event`, `sleep(seconds)` and `wait_readable(fd, timeout=None) -> bool` are the engine's waits: usable
    in any of its threads, and in the process's main one. `stopping` is set by every `stop`, graceful or not: what
    runs in rounds looks at it between two.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self.concurrency = engine.concurrency
        self.limit = limit
        self.event = engine.event
        self.sleep = engine.sleep
        self.wait_readable = engine.wait_readable
        self.stopping = engine.event()
        self._engine = engine
        self._slots = engine.slots(limit)
        self._threads: set[Thread] = set()
        self._loops: set[Thread] = set()
        self._timers: dict[Thread, Timer] = {}
        self._closed = False

    @property
    def active(self) -> int:
        """How many threads made by `add_thread` and `try_thread` have not ended."""
        return len(self._threads)

    def add_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run `fn(*args, **kwargs)` in a new thread; what it raises is logged with its traceback.

        At the limit it blocks the caller until a thread of the group ends. Raise `ForkdError` when the group was
        stopped at once or the system has no thread to give.
        """
        self._slots.acquire()
        return self._start_counted(Task(fn, args, kwargs))

    def try_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread | None:
        """As `add_thread`, but return None at the limit: it never blocks, so a hub's callback may use it."""
        if not self._slots.acquire(blocking=False):
            return None
        return self._start_counted(Task(fn, args, kwargs))

    def add_loop(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run one of the server's own long-lived loops; it is not counted, and any `stop` stops it at once."""
        return self._start(self._engine.thread(Task(fn, args, kwargs), self._loops.discard), self._loops.add)

    def add_timer(
        self, interval: float, fn: Callable[..., Any], /, *args: Any, initial_delay: float | None = None
    ) -> Timer:
        """Call `fn(*args)` every `interval` seconds in a thread of its own; the first time after `initial_delay`.

        Without `initial_delay` the first call is at once. The next call is due at the time the last one was due plus
        `interval`, by the monotonic clock, so it never drifts; ticks that pass during a call are skipped, so calls
        neither overlap nor bunch. What `fn` raises is logged with its traceback, and the timer goes on.
        """
        return self._add_timer(Timer(self.event(), Task(fn, args, {})), fixed_schedule(interval, initial_delay))

    def add_dynamic_timer(self, fn: Callable[..., Any], /, *args: Any, initial_delay: float | None = None) -> Timer:
        """Call `fn(*args)` again and again: it returns the seconds until its next call, or None to end the timer.

        A call that raises is logged and repeated after the last delay, or 1 s if that was shorter.
        """
        return self._add_timer(Timer(self.event(), Task(fn, args, {})), dynamic_schedule(initial_delay))

    def stop(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 -- the contract's signature
        """Stop the timers and loops, and unless `graceful` every thread too; return at once. The caller is spared.

        Graceful: a timer's running call is finished, the threads are left to end by themselves. Else they are asked
        by `Thread.stop`, and no new thread is started.
        """
        me = self._engine.current()
        self.stopping.set()
        self._closed = self._closed or not graceful
        for timer in list(self._timers.values()):
            timer.stop()
        at_once = [*self._loops] if graceful else [*self._loops, *self._timers, *self._threads]
        for thread in at_once:
            if thread is not me:
                thread.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every thread, loop and timer but the caller's has ended; return whether that came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        me = self._engine.current()
        while others := [thread for thread in self.members() if thread is not me]:
            for thread in others:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not thread.wait(left):
                    return False
        return True

    def members(self) -> list[Thread]:
        """Return every thread that has not ended: counted ones, loops and those of timers."""
        return [*self._threads, *self._loops, *self._timers]
