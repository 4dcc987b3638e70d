"""A timer: the loop that makes calls when its schedule says so; it starts no thread and knows no engine."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.threadgroup.engine import passes

if TYPE_CHECKING:
    from forkd.scoreboard import Record
    from forkd.threadgroup.engine import Event, Task, Thread
    from forkd.threadgroup.schedules import Schedule, Tick
    from forkd.threadgroup.watch import Watch

_log = logging.getLogger("forkd.threadgroup")


class Done(Exception):
    """Raised by a timer's call: it was the last one, and `result` is the timer's."""

    def __init__(self, result: Any = None) -> None:
        super().__init__(result)
        self.result = result


class Timer:
    """One function called by one schedule in one thread: its calls never overlap.

    What it counts stands in a record, too. When it has ended by itself, `result` is what its last call gave, by
    `Done` or by returning what ends such a timer, or `error` is what that raised.
    """

    def __init__(
        self,
        ended: Event,
        task: Task,
        record: Record,
        watch: Watch | None = None,
        stop_on_exception: bool = False,
    ) -> None:
        self.name = task.name
        self.runs = 0
        self.failures = 0
        self.skipped = 0
        self.lateness = 0.0  # seconds by which the last call began after it was due
        self.max_lateness = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.thread: Thread | None = None
        self._ended = ended
        self._task = task
        self._watch = watch
        self._record = record
        self._stop_on_exception = stop_on_exception

    @property
    def overruns(self) -> int:
        """How many calls took longer than they may."""
        return 0 if self._watch is None else self._watch.overruns

    @property
    def done(self) -> bool:
        """Whether it has ended and makes no more calls."""
        return self.thread is not None and self.thread.done

    def stop(self, graceful: bool = True) -> None:
        """Make no more calls; one that runs is finished, or, unless `graceful`, stopped as a thread is.

        Return at once.
        """
        self._ended.set()
        if not graceful and self.thread is not None:
            self.thread.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds; return whether it has."""
        return self.thread is None or self.thread.wait(timeout)

    def run(self, schedule: Schedule) -> None:
        """Make the calls; the body of the timer's thread."""
        try:
            due: float | None = schedule.first(schedule.clock.now())
            while due is not None and (due := self._sleep_until(due, schedule)) is not None:
                self.lateness = max(0.0, schedule.clock.now() - due)
                self.max_lateness = max(self.max_lateness, self.lateness)
                self._record.note(time.time(), self.lateness)
                tick = self._call(schedule, due)
                due = tick and self._skip(tick)
        finally:
            schedule.close()

    def _sleep_until(self, due: float, schedule: Schedule) -> float | None:
        """Return the instant at which the call was due at last, once it is there; None when the timer has ended.

        Each call is waited for, if for no time at all: a green thread would else let no other have its turn.
        """
        pause = 0.0
        while not self._ended.wait(pause):
            now = schedule.clock.now()
            due = schedule.confirm(due, now)
            if due <= now:
                return due
            pause = min(due - now, schedule.clock.longest_wait)
        return None

    def _call(self, schedule: Schedule, due: float) -> Tick | None:
        """Make one call; return the next one, if any."""
        self.runs += 1
        call = partial(self._task.fn, *self._task.args)
        try:
            result = call() if self._watch is None else self._watch.over(call)
            tick = schedule.following(due, schedule.clock.now(), result)
        except Done as done:
            result, tick = done.result, None
        except BaseException as error:
            if passes(error):
                raise
            return self._fail(error, schedule, due)
        self._record.add("ok")
        if tick is None:
            self.result = result
        return tick

    def _fail(self, error: BaseException, schedule: Schedule, due: float) -> Tick | None:
        self.failures += 1
        self._record.add("failed")
        _log.error("timer %s failed", self.name, exc_info=error)
        tick = None if self._stop_on_exception else schedule.retry(due, schedule.clock.now())
        if tick is None:
            self.error = error
        return tick

    def _skip(self, tick: Tick) -> float:
        """Count what is skipped to get to a call; return when that is due."""
        self.skipped += tick.skipped
        self._record.add("skipped", tick.skipped)
        return tick.due
