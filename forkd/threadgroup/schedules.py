"""When a timer's calls fall due; a schedule looks at no clock and calls nothing."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

_SHORTEST_RETRY = 1.0  # a dynamic timer that fails and had asked for no delay must not spin


class Clock(NamedTuple):
    """What instants are measured by, and the most seconds to wait before it is looked at again."""

    now: Callable[[], float]
    longest_wait: float


# epoll counts milliseconds in 32 bits: a wait of 25 days would break the hub.
MONOTONIC = Clock(time.monotonic, 86400.0)


class Tick(NamedTuple):
    """The instant of a call, and how many calls were skipped to get there."""

    due: float
    skipped: int = 0


class Schedule(ABC):
    """Decides when to call. All its instants, and every `now` that it is told, are seconds on its `clock`."""

    clock: Clock = MONOTONIC

    @abstractmethod
    def first(self, now: float) -> float:
        """Return when the first call is due."""

    @abstractmethod
    def following(self, due: float, now: float, result: Any) -> Tick | None:
        """Return the call after the one that was `due`, ended `now` and returned `result`; None: there is none."""

    def retry(self, due: float, now: float) -> Tick | None:
        """Return the call after one that raised; as a rule a failure changes nothing."""
        return self.following(due, now, None)

    def confirm(self, due: float, now: float) -> float:  # noqa: ARG002 -- for those whose clock may be set
        """Return `due`, or the instant that takes its place; asked after each wait, the last time when it is due."""
        return due

    def close(self) -> None:  # noqa: B027 -- most hold nothing
        """Let go of what it holds: no more calls are made."""


class Grid(Schedule):
    """A schedule that can be taken up where another process left it."""

    @abstractmethod
    def following(self, due: float, now: float, result: Any) -> Tick:
        """As in `Schedule`; there always is one."""

    @abstractmethod
    def resumed(self, ago: float, now: float) -> float:
        """Return when the call after one that began `ago` seconds ago is due; `now` if that was earlier."""


class FixedSchedule(Grid):
    """Every `interval` seconds from the first call on, whatever the calls take."""

    def __init__(self, interval: float, initial_delay: float) -> None:
        self._interval = interval
        self._initial_delay = initial_delay

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now + self._initial_delay

    def following(self, due: float, now: float, result: Any) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`: the next tick that is not yet over."""
        skipped = max(0, math.ceil((now - due) / self._interval) - 1)
        return Tick(due + (skipped + 1) * self._interval, skipped)

    def resumed(self, ago: float, now: float) -> float:
        """As in `Grid`."""
        return max(now, now - ago + self._interval)


class DynamicSchedule(Schedule):
    """Each call returns the delay until the next one, which is `max_delay` at most."""

    def __init__(self, initial_delay: float, max_delay: float = math.inf) -> None:
        self._initial_delay = initial_delay
        self._max_delay = max_delay
        self._delay = 0.0

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now + self._initial_delay

    def following(self, due: float, now: float, result: Any) -> Tick | None:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`; raise `TypeError` or `ValueError` when the result is no delay."""
        if result is None:
            return None
        self._delay = min(seconds("the delay that a dynamic timer returns", result), self._max_delay)
        return Tick(now + self._delay)

    def retry(self, due: float, now: float) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`: the last delay once more."""
        return Tick(now + min(max(self._delay, _SHORTEST_RETRY), self._max_delay))


class BackoffSchedule(Schedule):
    """At once, and again after growing delays until a call returns something true; the last `timeout` after the first.

    A delay is drawn from the upper half of `delay`, which doubles up to `max_delay`: many who began together part.
    """

    def __init__(
        self, delay: float, max_delay: float, timeout: float, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._delay = delay
        self._max_delay = max_delay
        self._timeout = timeout
        self._draw = draw
        self._last = math.inf  # the instant of the last call

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        self._last = now + self._timeout
        return now

    def following(self, due: float, now: float, result: Any) -> Tick | None:
        """As in `Schedule`; raise `TimeoutError` when there is none, though the result is not true."""
        if result:
            return None
        tick = self.retry(due, now)
        if tick is None:
            raise TimeoutError(f"nothing came of it in {self._timeout:g} s")
        return tick

    def retry(self, due: float, now: float) -> Tick | None:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`."""
        if now >= self._last:
            return None
        delay = min(self._delay, self._max_delay)
        self._delay = min(2 * delay, self._max_delay)
        return Tick(min(now + self._draw(delay / 2, delay), self._last))


class JitteredSchedule(Grid):
    """The instants of another schedule, each put off by up to `jitter` seconds, drawn anew; they never add up.

    A tick is skipped only when it is over however long it might have been put off, so jitter alone skips none.
    """

    def __init__(self, inner: Grid, jitter: float, draw: Callable[[float, float], float] = random.uniform) -> None:
        self.clock = inner.clock
        self._inner = inner
        self._jitter = jitter
        self._draw = draw
        self._tick = 0.0  # the inner schedule's instant of the call that comes

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return self._put_off(self._inner.first(now), now)

    def following(self, due: float, now: float, result: Any) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`."""
        tick = self._inner.following(self._tick, now - self._jitter, result)
        return Tick(self._put_off(tick.due, now), tick.skipped)

    def confirm(self, due: float, now: float) -> float:
        """As in `Schedule`."""
        tick = self._inner.confirm(self._tick, now)
        return due if tick == self._tick else self._put_off(tick, now)

    def resumed(self, ago: float, now: float) -> float:
        """As in `Grid`."""
        return self._put_off(self._inner.resumed(ago, now), now)

    def _put_off(self, tick: float, now: float) -> float:
        self._tick = tick
        soonest = max(tick, now)
        return self._draw(soonest, max(soonest, tick + self._jitter))


def fixed_schedule(interval: float, initial_delay: float | None) -> FixedSchedule:
    """Return a checked schedule; `None` is 0 seconds. Raise `TypeError` or `ValueError` for what is no time."""
    return FixedSchedule(_above_zero("interval", interval), seconds("initial_delay", initial_delay or 0.0))


def dynamic_schedule(initial_delay: float | None, max_delay: float | None) -> DynamicSchedule:
    """Return a checked schedule; as `fixed_schedule`. A `max_delay` of None is no bound."""
    bound = math.inf if max_delay is None else _above_zero("max_delay", max_delay)
    return DynamicSchedule(seconds("initial_delay", initial_delay or 0.0), bound)


def backoff_schedule(delay: float, max_delay: float, timeout: float | None) -> BackoffSchedule:
    """Return a checked schedule; as `fixed_schedule`. A `timeout` of None is no bound."""
    bound = math.inf if timeout is None else _above_zero("timeout", timeout)
    return BackoffSchedule(_above_zero("delay", delay), _above_zero("max_delay", max_delay), bound)


def _above_zero(what: str, value: Any) -> float:
    if seconds(what, value) == 0:
        raise ValueError(f"{what}: expected more than 0 seconds")
    return float(value)


def seconds(what: str, value: Any) -> float:
    """Return `value` if it is a number of seconds, 0 or more; raise `TypeError` or `ValueError` that says `what`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}: expected seconds, got {value!r}")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{what}: expected seconds, 0 or more, got {value!r}")
    return float(value)
