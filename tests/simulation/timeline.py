"""Virtual time: a heap of things that will happen. It knows nothing of what they are."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timeline:
    """Time moves only in `advance`, and never backwards; what is due happens in order, each at its own instant."""

    __slots__ = ("_count", "_heap", "froze_at", "now", "thawed_at")

    def __init__(self, now: float) -> None:
        self.now = now
        self.froze_at = self.thawed_at = now
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def after(self, delay: float, act: Callable[[], object]) -> None:
        """Let `act` happen `delay` seconds from now."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, act))

    def due(self) -> float | None:
        """When the next thing happens, if anything will."""
        return self._heap[0][0] if self._heap else None

    def advance(self, to: float) -> None:
        """Move on to the instant `to`, through all that happens until then."""
        while self._heap and self._heap[0][0] <= to:
            when, _, act = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            act()
        self.now = max(self.now, to)

    def freeze(self, seconds: float) -> None:
        """Let `seconds` pass in which nothing runs: the machine sleeps, and everything comes that much later."""
        self.froze_at = self.now
        self.now += seconds
        self.thawed_at = self.now
        self._heap = [(when + seconds, count, act) for when, count, act in self._heap]  # the order stays: a heap still
