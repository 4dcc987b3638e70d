"""A timer: the loop that makes calls when its schedule says so; it starts no thread and knows no engine."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from forkd.threadgroup.engine import passes

if TYPE_CHECKING:
    from forkd.threadgroup.engine import Event, Task, Thread
    from forkd.threadgroup.schedules import Schedule, Tick
    from forkd.threadgroup.watch import Watch

_log = logging.getLogger("forkd.threadgroup")


class Timer:
    """One function called by one schedule in one thread: its calls never overlap, and an exception does not end it."""

    def __init__(self, ended: Event, task: Task, watch: Watch | None = None) -> None:
        self.name = task.name
        self.runs = 0
        self.failures = 0
        self.skipped = 0
        self.lateness = 0.0  # seconds by which the last call began after it was due
        self.max_lateness = 0.0
        self.thread: Thread | None = None
        self._ended = ended
        self._task = task
        self._watch = watch

    @property
    def overruns(self) -> int:
        """How many calls took longer than they may."""
        return 0 if self._watch is None else self._watch.overruns

    @property
    def done(self) -> bool:
        """Whether it has ended and makes no more calls."""
        return self.thread is not None and self.thread.done

    def stop(self) -> None:
        """Make no more calls; one that runs is finished. Return at once."""
        self._ended.set()

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
                tick = self._call(schedule, due)
                self.skipped += tick.skipped if tick else 0
                due = tick and tick.due
        finally:
            schedule.close()

    def _sleep_until(self, due: float, schedule: Schedule) -> float | None:
        """Return the instant at which the call was due at last, once it is there; None when the timer has ended."""
        while not self._ended.is_set():
            now = schedule.clock.now()
            due = schedule.confirm(due, now)
            if due <= now:
                return due
            self._ended.wait(min(due - now, schedule.clock.longest_wait))
        return None

    def _call(self, schedule: Schedule, due: float) -> Tick | None:
        self.runs += 1
        call = partial(self._task.fn, *self._task.args)
        try:
            result = call() if self._watch is None else self._watch.over(call)
            return schedule.following(due, schedule.clock.now(), result)
        except BaseException as error:
            if passes(error):
                raise
            self.failures += 1
            _log.exception("timer %s failed", self.name)
            return schedule.retry(due, schedule.clock.now())
