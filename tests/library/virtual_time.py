"""A clock for timers that are tried without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd import scoreboard
from forkd.threadgroup.engine import Task
from forkd.threadgroup.schedules import Clock
from forkd.threadgroup.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.threadgroup.schedules import Schedule


class VirtualTime:
    """A clock, and the event that a timer sleeps on, which only lets time pass; each call takes as long as told.

    It starts at `start`; `steps` are by how much it is set forward or back, after so many seconds that truly passed.
    """

    def __init__(
        self,
        lasts: float,
        *,
        takes: Sequence[float] = (0.0,),
        oversleeps: Sequence[float] = (0.0,),
        start: float = 1000.0,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.passed = 0.0
        self.start = start
        self.calls: list[float] = []  # seconds after the start by this clock
        self.waits: list[float] = []
        self._lasts = lasts
        self._takes = takes
        self._oversleeps = oversleeps
        self._steps = steps

    def now(self) -> float:
        return self.start + self.passed + sum(by for after, by in self._steps if self.passed >= after)

    def set(self) -> None:
        self._lasts = self.passed

    def is_set(self) -> bool:
        return self.passed >= self._lasts

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if timeout:  # to give way to others takes none
            self.passed += timeout + self._oversleeps[len(self.waits) % len(self._oversleeps)]
            self.waits.append(timeout)
        return self.is_set()

    def call(self) -> None:
        self.calls.append(round(self.now() - self.start, 6))
        self.passed += self._takes[(len(self.calls) - 1) % len(self._takes)]

    def run(self, schedule: Schedule) -> Timer:
        """Have a timer make the schedule's calls."""
        schedule.clock = Clock(self.now, schedule.clock.longest_wait)
        timer = Timer(self, Task(self.call, (), {}), scoreboard.loose("task"))
        timer.run(schedule)
        return timer
