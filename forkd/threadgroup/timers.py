"""When a timer's calls fall due, and the loop that makes them; it starts no thread and knows no engine."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from forkd.threadgroup.engine import passes

if TYPE_CHECKING:
    from forkd.threadgroup.engine import Event, Task, Thread

_log = logging.getLogger("forkd.threadgroup")

_LONGEST_WAIT = 86400.0  # epoll counts milliseconds in 32 bits: a wait of 25 days would break the hub
_SHORTEST_RETRY = 1.0  # a dynamic timer that fails and had asked for no delay must not spin


class Tick(NamedTuple):
    """The instant of a call (monotonic seconds), and how many calls were skipped to get there."""

    due: float
    skipped: int = 0


class Schedule(Protocol):
    """Decides when to call; it never looks at a clock itself."""

    def first(self, now: float) -> float:
        """Return when the first call is due."""

    def following(self, due: float, now: float, result: Any) -> Tick | None:
        """Return the call after the one that was `due`, ended `now` and returned `result`; None: there is none."""

    def retry(self, due: float, now: float) -> Tick:
        """Return the call after one that raised."""


class FixedSchedule(NamedTuple):
    """Every `interval` seconds from the first call on, whatever the calls take."""

    interval: float
    initial_delay: float

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now + self.initial_delay

    def following(self, due: float, now: float, result: Any) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`: the next tick that is not yet over."""
        skipped = max(0, math.ceil((now - due) / self.interval) - 1)
        return Tick(due + (skipped + 1) * self.interval, skipped)

    def retry(self, due: float, now: float) -> Tick:
        """As in `Schedule`: a failure changes nothing."""
        return self.following(due, now, None)


class DynamicSchedule:
    """Each call returns the delay until the next one."""

    def __init__(self, initial_delay: float) -> None:
        self._initial_delay = initial_delay
        self._delay = 0.0

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now + self._initial_delay

    def following(self, due: float, now: float, result: Any) -> Tick | None:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`; raise `TypeError` or `ValueError` when the result is no delay."""
        if result is None:
            return None
        self._delay = _seconds("the delay that a dynamic timer returns", result)
        return Tick(now + self._delay)

    def retry(self, due: float, now: float) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`: the last delay once more."""
        return Tick(now + max(self._delay, _SHORTEST_RETRY))


def fixed_schedule(interval: float, initial_delay: float | None) -> FixedSchedule:
    """Return a checked schedule; `None` is 0 seconds. Raise `TypeError` or `ValueError` for what is no time."""
    checked = FixedSchedule(_seconds("interval", interval), _seconds("initial_delay", initial_delay or 0.0))
    if checked.interval == 0:
        raise ValueError("interval: expected more than 0 seconds")
    return checked


def dynamic_schedule(initial_delay: float | None) -> DynamicSchedule:
    """Return a checked schedule; as `fixed_schedule`."""
    return DynamicSchedule(_seconds("initial_delay", initial_delay or 0.0))


class Timer:
    """One function called by one schedule in one thread: its calls never overlap, and an exception does not end it."""

    def __init__(self, ended: Event, task: Task) -> None:
        self.name = task.name
        self.runs = 0
        self.failures = 0
        self.skipped = 0
        self.lateness = 0.0  # seconds by which the last call began after it was due
        self.thread: Thread | None = None
        self._ended = ended
        self._task = task

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
        due = schedule.first(time.monotonic())
        while self._sleep_until(due):
            self.lateness = max(0.0, time.monotonic() - due)
            tick = self._call(schedule, due)
            if tick is None:
                return
            self.skipped += tick.skipped
            due = tick.due

    def _sleep_until(self, due: float) -> bool:
        while not self._ended.is_set():
            left = due - time.monotonic()
            if left <= 0:
                return True
            self._ended.wait(min(left, _LONGEST_WAIT))
        return False

    def _call(self, schedule: Schedule, due: float) -> Tick | None:
        self.runs += 1
        try:
            result = self._task.fn(*self._task.args)
            return schedule.following(due, time.monotonic(), result)
        except BaseException as error:
            if passes(error):
                raise
            self.failures += 1
            _log.exception("timer %s failed", self.name)
            return schedule.retry(due, time.monotonic())


def _seconds(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}: expected seconds, got {value!r}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{what}: expected seconds, 0 or more, got {value!r}")
    return float(value)
