"""The thread group itself, over any engine; it makes threads by the engine alone."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from forkd import scoreboard
from forkd.errors import ForkdError
from forkd.threadgroup.engine import Task
from forkd.threadgroup.schedules import backoff_schedule, dynamic_schedule, fixed_schedule
from forkd.threadgroup.timers import Timer
from forkd.threadgroup.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.scoreboard import Record
    from forkd.threadgroup.engine import Engine, Thread
    from forkd.threadgroup.schedules import Schedule

_log = logging.getLogger("forkd.threadgroup")


class ThreadGroup:
    """All threads of one service; at most `limit` of those made by `add_thread` run at once, and none is forgotten.

    Timers and loops are forkd's and the server's own few, so they do not count against `limit`: a service of one
    thread can still beat, tick and accept.

    `event() -> Event`, `sleep(seconds)` and `wait_readable(fd, timeout=None) -> bool` are the engine's waits: usable
    in any of its threads, and in the process's main one; `is_writable(fd) -> bool` never waits. `stopping` is set by
    every `stop`, graceful or not: what runs in rounds looks at it between two. `slots` are the places for threads
    within `limit`; a loop that does the work of a thread takes one for that time.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self.concurrency = engine.concurrency
        self.limit = limit
        self.event = engine.event
        self.sleep = engine.sleep
        self.wait_readable = engine.wait_readable
        self.is_writable = engine.is_writable
        self.stopping = engine.event()
        self._engine = engine
        self.slots = engine.slots(limit)
        self._threads = _Crew(engine, self.slots.release)
        self._loops = _Crew(engine)
        self._tickers = _Crew(engine)  # the threads of the timers
        self._attendants = _Crew(engine)
        self._crews = (self._loops, self._tickers, self._threads, self._attendants)
        self._timers: set[Timer] = set()

    @property
    def active(self) -> int:
        """How many threads made by `add_thread` and `try_thread` have not ended."""
        return len(self._threads.members)

    def add_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run `fn(*args, **kwargs)` in a new thread; what it raises is logged with its traceback.

        At the limit it blocks the caller until a thread of the group ends. Raise `ForkdError` when the group was
        stopped at once, the system has no thread to give, or the caller is a hub's callback, which must not block.
        """
        self.slots.acquire()
        return self._threads.start(Task(fn, args, kwargs))

    def try_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread | None:
        """As `add_thread`, but it never blocks or raises, so a hub's callback may use it.

        Return None at the limit, after a stop at once, and when the system has no thread to give, which is logged.
        """
        if self._threads.closed or not self.slots.acquire(blocking=False):
            return None
        try:
            return self._threads.start(Task(fn, args, kwargs))
        except ForkdError as error:
            _log.warning("%s", error)
            return None

    def add_loop(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Thread:
        """Run one of the server's own long-lived loops; it is not counted, and any `stop` stops it at once."""
        return self._loops.start(Task(fn, args, kwargs))

    def add_attendant(self, fn: Callable[..., Any], /, *args: Any) -> Thread:
        """Run what sees to this group's threads, or stops them; it is not counted, and a graceful stop spares it.

        So of two stops the gentle one ends no other.
        """
        return self._attendants.start(Task(fn, args, {}))

    def add_timer(
        self,
        interval: float,
        fn: Callable[..., Any],
        /,
        *args: Any,
        initial_delay: float | None = None,
        stop_on_exception: bool = False,
    ) -> Timer:
        """Call `fn(*args)` every `interval` seconds in a thread of its own; the first time after `initial_delay`.

        Without `initial_delay` the first call is at once. The next call is due at the time the last one was due plus
        `interval`, by the monotonic clock, so it never drifts; ticks that pass during a call are skipped, so calls
        neither overlap nor bunch. What `fn` raises is logged with its traceback, and the timer goes on, unless it is
        to `stop_on_exception`. `Done` ends it.
        """
        schedule = fixed_schedule(interval, initial_delay)
        return self.start_timer(Task(fn, args, {}), schedule, stop_on_exception=stop_on_exception)

    def add_dynamic_timer(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        initial_delay: float | None = None,
        max_delay: float | None = None,
        stop_on_exception: bool = False,
    ) -> Timer:
        """Call `fn(*args)` again and again: it returns the seconds until its next call, or None to end the timer.

        It waits `max_delay` seconds at most. A call that raises is logged and repeated after the last delay, or 1 s
        if that was shorter, unless the timer is to `stop_on_exception`.
        """
        schedule = dynamic_schedule(initial_delay, max_delay)
        return self.start_timer(Task(fn, args, {}), schedule, stop_on_exception=stop_on_exception)

    def add_backoff_timer(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        delay: float = 1.0,
        max_delay: float = 60.0,
        timeout: float | None = None,
    ) -> Timer:
        """Call `fn(*args)` at once and again until it returns something true, which is the timer's `result`.

        Between two tries it waits `delay` seconds, each time twice as long as before, `max_delay` at most; up to half
        of it is taken off at random. A try that raises is logged. The last one comes `timeout` seconds after the
        first; when that fails too, the timer's `error` is what it raised, or else a `TimeoutError`.
        """
        return self.start_timer(Task(fn, args, {}), backoff_schedule(delay, max_delay, timeout))

    def start_timer(
        self,
        task: Task,
        schedule: Schedule,
        timeout: float | None = None,
        record: Record | None = None,
        stop_on_exception: bool = False,
    ) -> Timer:
        """Make the calls of a schedule, and count them in a record of tasks too.

        Those that take longer than `timeout` seconds are told of, and not ended.
        """
        record = record or scoreboard.loose("task")
        watch = None if timeout is None else Watch(task, timeout, self._engine, self._tickers.start, record)
        timer = Timer(self.event(), task, record, watch, stop_on_exception)

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
        for crew in (self._loops,) if graceful else self._crews:
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
        return [*set().union(*(crew.members for crew in self._crews)) - {me}]

    def current(self) -> Thread | None:
        """Return the calling thread, or None when it is not of this group."""
        me = self._engine.current()
        return me if any(me in crew.members for crew in self._crews) else None


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
