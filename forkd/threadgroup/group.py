"""The thread group itself, and what an engine must offer it; it knows no engine and starts no thread by other means."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from forkd.errors import ForkdError
from forkd.threadgroup.timers import Timer, dynamic_schedule, fixed_schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup.timers import Schedule

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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; return whether it has. What it raised was logged."""

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


class Task:
    """What a thread runs: a function and its arguments; nothing but `KeyboardInterrupt` leaves its `run`."""

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
        except Exception:  # noqa: BLE001 -- logged: whoever made the thread does not wait for it
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
        self._threads = _Crew(engine, self._slots.release)
        self._loops = _Crew(engine)
        self._tickers = _Crew(engine)  # the threads of the timers
        self._timers: set[Timer] = set()

    @property
    def active(self) -> int:
        """How many threads made by `add_thread` and `try_thread` have not ended."""
        return len(self._threads.members)

    def add_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run `fn(*args, **kwargs)` in a new thread; what it raises is logged with its traceback.

        At the limit it blocks the caller until a thread of the group ends. Raise `ForkdError` when the group was
        stopped at once or the system has no thread to give.
        """
        self._slots.acquire()
        return self._threads.start(Task(fn, args, kwargs))

    def try_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread | None:
        """As `add_thread`, but it never blocks or raises, so a hub's callback may use it.

        Return None at the limit, after a stop at once, and when the system has no thread to give, which is logged.
        """
        if self._threads.closed or not self._slots.acquire(blocking=False):
            return None
        try:
            return self._threads.start(Task(fn, args, kwargs))
        except ForkdError as error:
            _log.warning("%s", error)
            return None

    def add_loop(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run one of the server's own long-lived loops; it is not counted, and any `stop` stops it at once."""
        return self._loops.start(Task(fn, args, kwargs))

    def add_timer(
        self, interval: float, fn: Callable[..., Any], /, *args: Any, initial_delay: float | None = None
    ) -> Timer:
        """Call `fn(*args)` every `interval` seconds in a thread of its own; the first time after `initial_delay`.

        Without `initial_delay` the first call is at once. The next call is due at the time the last one was due plus
        `interval`, by the monotonic clock, so it never drifts; ticks that pass during a call are skipped, so calls
        neither overlap nor bunch. What `fn` raises is logged with its traceback, and the timer goes on.
        """
        return self._start_timer(Task(fn, args, {}), fixed_schedule(interval, initial_delay))

    def add_dynamic_timer(self, fn: Callable[..., Any], /, *args: Any, initial_delay: float | None = None) -> Timer:
        """Call `fn(*args)` again and again: it returns the seconds until its next call, or None to end the timer.

        A call that raises is logged and repeated after the last delay, or 1 s if that was shorter.
        """
        return self._start_timer(Task(fn, args, {}), dynamic_schedule(initial_delay))

    def stop(self, graceful: bool = False) -> None:
        """Stop the timers and loops, and unless `graceful` every thread too; return at once. The caller is spared.

        Graceful: a timer's running call is finished, the threads are left to end by themselves and may start others.
        Else all are asked by `Thread.stop`, and no new one is started. No new timer is started either way.
        """
        self.stopping.set()
        self._tickers.closed = True
        for timer in list(self._timers):
            timer.stop()
        me = self._engine.current()
        for crew in (self._loops,) if graceful else (self._loops, self._tickers, self._threads):
            crew.closed = crew.closed or not graceful
            for thread in crew.members - {me}:
                thread.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every thread, loop and timer but the caller's has ended; return whether that came in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while others := self.others():
            for thread in others:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not thread.wait(left):
                    return False
        return True

    def others(self) -> list[Thread]:
        """Return every thread of the group that has not ended, those of its loops and timers too, but the caller's."""
        me = self._engine.current()
        return [*(self._threads.members | self._loops.members | self._tickers.members) - {me}]

    def current(self) -> Thread | None:
        """Return the calling thread, or None when it is not of this group."""
        me = self._engine.current()
        return me if any(me in crew.members for crew in (self._threads, self._loops, self._tickers)) else None

    def _start_timer(self, task: Task, schedule: Schedule) -> Timer:
        timer = Timer(self.event(), task)

        def run() -> None:
            try:
                timer.run(schedule)
            finally:
                self._timers.discard(timer)

        self._timers.add(timer)
        try:
            timer.thread = self._tickers.start(Task(run, (), {}, timer.name))
        except ForkdError:
            self._timers.discard(timer)
            raise
        return timer


class _Crew:
    """Threads of one kind; `members` are those that have not ended, and once `closed` there come no more."""

    def __init__(self, engine: Engine, release: Callable[[], object] = lambda: None) -> None:
        self.members: set[Thread] = set()
        self.closed = False
        self._engine = engine
        self._release = release

    def start(self, task: Task) -> Thread:
        thread = self._engine.thread(task, self._end)
        self.members.add(thread)
        try:
            if self.closed:
                raise RuntimeError("its thread group is stopped")
            thread.start()
        except RuntimeError as error:  # also when the system has no thread to give
            self._end(thread)
            raise ForkdError(f"cannot start thread {task.name}: {error}") from None
        return thread

    def _end(self, thread: Thread) -> None:
        self.members.discard(thread)
        self._release()
