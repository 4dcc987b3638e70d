"""Waits that look a moment longer before they sleep, as long as that has been worth it: adaptive busy polling."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Events = list[tuple[int, int]]

_MOMENT = 0.0001  # seconds; to be put to sleep and woken takes about as long, and one's code is out of the caches then
_LONGEST_REST = 63  # waits


class BusyPoll:
    """Waits as `poll` does, by which nobody else waits meanwhile.

    Two who answer each other at once need not sleep in between. Each time that nothing comes within the moment, twice
    as many waits as before go by until it looks again: where little comes it costs next to nothing. While it looks,
    whoever else wants the processor has it.
    """

    def __init__(self, poll: Callable[[Any], Events]) -> None:
        """`poll` is that of an epoll or of a poll object: called with 0 it does not wait."""
        self._poll = poll
        self._rest = 0  # waits without a longer look after the last one in vain
        self._resting = 0  # how many of these are left

    def __call__(self, timeout: float | None) -> Events:
        """Return what is ready, as `poll(timeout)`, though a moment later where nothing is."""
        if timeout == 0:
            return self._poll(timeout)
        if self._resting:
            self._resting -= 1
            return self._poll(timeout)
        return self._poll(0) or self._look() or self._poll(timeout)

    def _look(self) -> Events:
        until = time.perf_counter() + _MOMENT
        while True:
            os.sched_yield()
            if found := self._poll(0):
                self._rest = 0
                return found
            if time.perf_counter() >= until:
                break
        self._rest = self._resting = min(2 * self._rest + 1, _LONGEST_REST)
        return []
