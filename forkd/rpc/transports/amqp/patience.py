"""How long a call may wait in the broker: what waits longer could not be answered in time any more.

A queue gives out what has waited longest. When more comes than can be answered, all that a broker gives out would be
just about to be late, and every worker busy with calls that nobody waits for any longer. So a broker keeps a call no
longer than leaves four times the time that such calls took at best, lately; and no less than half of its time.
"""

from __future__ import annotations

import math
import time

_WINDOW = 5.0  # seconds for which, and for as long again, something is remembered
_MARGIN = 4  # most calls take longer than the shortest one
_LONGEST = (1 << 32) - 1  # ms; a broker takes no more


class Patience:
    """Of one method: the shortest of the times that its calls took, in the window of now and in the one before."""

    def __init__(self) -> None:
        self._now = self._before = math.inf
        self._since = time.monotonic()

    def note(self, seconds: float) -> None:
        """Take note of the time that a call took, or would have been given."""
        now = time.monotonic()
        if now - self._since > _WINDOW:
            self._before = self._now if now - self._since < 2 * _WINDOW else math.inf
            self._now, self._since = math.inf, now
        self._now = min(self._now, seconds)

    def kept(self, seconds: float) -> float:
        """Return how many seconds a broker may keep a call that has so many left."""
        shortest = min(self._now, self._before)
        return seconds if math.inf in (seconds, shortest) else max(seconds / 2, seconds - _MARGIN * shortest)


def expiration(seconds: float) -> bytes:
    """Return how long a broker is to keep a message, in its own words."""
    return b"" if seconds == math.inf else b"%d" % min(math.ceil(1000 * max(0.0, seconds)), _LONGEST)
