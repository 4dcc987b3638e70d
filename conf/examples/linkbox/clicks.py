"""The click counter: an RPC server that answers at once and writes once a second."""

from __future__ import annotations

import sqlite3
from collections import Counter

from forkd import periodic_task, rpc
from linkbox import store


class Clicks(rpc.Server):
    """Counts in memory and adds to the store every second, so a popular link costs no write per click.

    Every public method is callable as `clicks.METHOD`. Calls run at the same time in threads of one worker; these
    are green ones, which switch only where they wait, so the counter needs no lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending: Counter[str] = Counter()

    def record(self, code: str) -> None:
        """Count one click on the link `code`."""
        self._pending[code] += 1

    def top(self, limit: int = 10) -> list[dict[str, object]]:
        """Return the `limit` links followed most, each with `code`, `url` and `clicks`."""
        if not 1 <= limit <= 100:
            message = f"limit is 1 to 100, not {limit}"
            raise ValueError(message)  # the caller gets it as an rpc.RemoteError
        return [link._asdict() for link in store.top(limit)]

    @periodic_task(spacing=1)
    def flush(self) -> None:
        """Write what was counted since the last time."""
        counted, self._pending = self._pending, Counter()
        try:
            store.count(counted)
        except sqlite3.Error:
            self._pending.update(counted)  # forkd logs the error; the next second tries again
            raise

    def stop(self, graceful: bool = True) -> None:
        """Finish the calls in flight, then write what they counted: nothing is lost in a reload."""
        super().stop(graceful)
        self.flush()
