"""Whether items may be served in a way that only suits quick ones, as what they have used of late tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resource import struct_rusage

_QUICK = 0.001  # seconds of the processor that items may take on average
_RARELY = 4  # one item in so many may wait for something
_MOST_COMPUTED, _MOST_WAITS = 0.005, 4.0  # beyond that, until the gate is closed for them
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds for which it is closed, each time twice as long
_PROVEN = 2000  # quick items in a row after which a pause is a short one again


class Gate:
    """Closed for a while when items have not been quick of late, each time for longer, until many in a row are."""

    def __init__(self) -> None:
        self._closed_until = 0.0
        self._pause = _SHORTEST_PAUSE
        self._proven = 0
        self._computed = self._waits = 0.0

    def is_open(self) -> bool:
        """Return whether it is not closed."""
        return time.monotonic() >= self._closed_until

    def judge(self, count: int, before: struct_rusage, after: struct_rusage) -> None:
        """Take account of so many items, served between two looks at what their thread has used."""
        computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self._computed = max(0.0, self._computed + computed - count * _QUICK)
        self._waits = max(0.0, self._waits + after.ru_nvcsw - before.ru_nvcsw - count / _RARELY)
        if self._computed > _MOST_COMPUTED or self._waits > _MOST_WAITS:
            self.close()
            return
        self._proven += count
        if self._proven > _PROVEN:
            self._pause = _SHORTEST_PAUSE

    def close(self) -> None:
        """Close it."""
        self._closed_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._proven = 0
        self._computed = self._waits = 0.0
