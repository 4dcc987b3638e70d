"""How long a call may wait in the broker: what waits longer could not be answered in time any more.

A queue gives out what has waited longest. When more comes than can be answered, all that a broker gives out would be
just about to be late, and every worker busy with calls that nobody waits for any longer. So a broker keeps a call for
seven eighths of its time; and as soon as calls are found to take long, for half of it. That leaves as much for all that
comes after the wait, however long it takes while everybody is busy: it can be much longer than at better times.
"""

from __future__ import annotations

import math
import time

_KEPT, _KEPT_LESS = 7 / 8, 1 / 2  # of a call's time
_MEMORY = 5.0  # seconds after which, and after the time of such a call itself, it is forgotten that one took long
_LONGEST = (1 << 32) - 1  # ms; a broker takes no more


class Patience:
    """Of one method: whether its calls took long lately, which is more than half of the time that they had."""

    def __init__(self) -> None:
        self._hurried_until = -math.inf

    def note(self, took: float, had: float) -> None:
        """Take note of the seconds that a call took and had; one that was not answered took all of them."""
        if took > had / 2:
            self._hurried_until = time.monotonic() + had + _MEMORY

    def kept(self, left: float) -> float:
        """Return how many seconds a broker may keep a call that has so many left."""
        return left * (_KEPT_LESS if time.monotonic() < self._hurried_until else _KEPT)


def expiration(seconds: float) -> bytes:
    """Return how long a broker is to keep a message, in its own words."""
    return b"" if seconds == math.inf else b"%d" % min(math.ceil(1000 * max(0.0, seconds)), _LONGEST)
