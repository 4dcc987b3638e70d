"""When a task of the cluster is called: each tick of its schedule once, by the worker that asks for it first."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.lease import deadline
from forkd.threadgroup.schedules import Clock, Schedule, Tick

if TYPE_CHECKING:
    from forkd.lease.backend import Standing
    from forkd.lease.claim import Claim
    from forkd.threadgroup.schedules import Grid

_MOST_TRIES = 3  # in a row; who is always too late has a rest
_ROUNDING = 0.002  # seconds: a lease counts in milliseconds
_CLOCK = Clock(deadline.now, 60.0)  # the waits of threads do not count the time that the machine sleeps


class Due(NamedTuple):
    """A tick of the schedule, by the backend's clock, and the instant of its call, by the worker's."""

    tick: float
    at: float


class LeasedSchedule(Schedule):
    """The ticks of a grid, each of which one worker of all calls for.

    The backend knows the last tick that was called for, by its own clock: so all workers reckon with the same ticks,
    whatever their clocks say, and none is called for twice.
    """

    def __init__(self, grid: Grid, claim: Claim, *, run_immediately: bool, jitter: float) -> None:
        """`grid` is without jitter: that is drawn once for each tick, the same by all workers."""
        self.clock = _CLOCK
        self._grid = grid
        self._claim = claim
        self._run_immediately = run_immediately
        self._jitter = jitter

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now

    def confirm(self, due: float, now: float) -> float:
        """As in `Schedule`: a call is due only when it was granted."""
        if now < due:
            return due
        if self._claim.held:
            return due
        fresh = self._claim.standing is None or self._claim.standing.ended is None
        if fresh and not self._claim.look(begin=not self._run_immediately):
            return now + self._claim.pause()
        return self._ask(now, fresh)

    def following(self, due: float, now: float, result: Any) -> Tick | None:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`."""
        standing = self._claim.standing
        if standing is None or standing.tick is None or standing.ended is None:
            return Tick(now)  # nothing was called for
        tick = self._grid.following(standing.tick, standing.ended, None)
        return Tick(self._put_off(tick.due), tick.skipped)

    def close(self) -> None:
        """As in `Schedule`."""
        self._claim.close()

    def _ask(self, now: float, fresh: bool) -> float:
        """Ask for the run that is due, if one is; return when the next one is, or `now` at most if it was granted.

        `fresh`: how the task stands was looked at just now.
        """
        for _ in range(_MOST_TRIES):
            standing = self._claim.standing
            assert standing is not None  # noqa: S101 -- it was looked at
            due = self._due(standing)
            current = self.clock.now()
            if due.at > current:
                return due.at
            if fresh and standing.left > 0:
                return self._stand_by(standing, current)
            granted, fresh = self._claim.take(due.tick), True
            if granted:
                return min(due.at, now)
            if granted is None:
                break
        return self.clock.now() + self._claim.pause()

    def _due(self, standing: Standing) -> Due:
        """Return what comes after the last run; while that has not ended, the tick after its own."""
        if standing.tick is None:
            return Due(standing.now, standing.now - self._claim.offset)
        after = standing.tick if standing.ended is None else standing.ended
        tick = self._grid.following(standing.tick, after, None).due
        return Due(tick, self._put_off(tick))

    def _stand_by(self, standing: Standing, now: float) -> float:
        """Return when to ask again while somebody has the task: at the next tick, or when the lease is over.

        What is due is skipped if who has it lives.
        """
        free = standing.now - self._claim.offset + standing.left + _ROUNDING
        if standing.tick is None:
            return max(free, now + _ROUNDING)
        tick = self._grid.following(standing.tick, now + self._claim.offset, None).due
        return max(min(free, self._put_off(tick)), now + _ROUNDING)

    def _put_off(self, tick: float) -> float:
        """Return the instant of a tick's call."""
        at = tick - self._claim.offset
        if not self._jitter:
            return at
        drawn = random.Random(f"{self._claim.task} {tick:.3f}")  # noqa: S311 -- no secret: all workers draw the same
        return at + drawn.uniform(0.0, self._jitter)
