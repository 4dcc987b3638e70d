"""The connections of a process whose threads share them, native or green: how one waits for a worker to get ready."""

from __future__ import annotations

import math
import threading
import time

from forkd.rpc.errors import Timeout
from forkd.rpc.transports.local.pool import PooledConnection
from forkd.rpc.transports.local.slots import Slots
from forkd.rpc.transports.waits import left_until, until_ready

_PATIENCE = 1.0  # seconds for those that were just connected to, if they are ready, to say so


class Connections(Slots[PooledConnection]):
    """Of all threads that need a worker one searches, and the others wait for it."""

    def __init__(self, topic: str, directory: str) -> None:
        super().__init__(topic, directory, PooledConnection)
        self._search = threading.RLock()  # of the one thread that looks for workers; it knows which one that is

    def choose(self, deadline: float, worker: int | str | None) -> PooledConnection:
        """Return the connection that a call for this worker, of `Outgoing`, is to be sent on.

        Raise `NoSuchTopic` or `NoSuchWorker` at once, `Timeout` at the monotonic `deadline`.
        """
        looks = 0
        while True:
            best = self.best(worker)
            if best is not None and self.is_settled():
                return best
            try:
                if self._acquire_search(deadline, wait=best is None):
                    self.refresh(worker)
                    best = self.best(worker)
                elif best is None:
                    raise Timeout(f"{self.topic}: no worker was found within the deadline")
                if best is not None:
                    return best
                self._await_hello(min(self.pause(looks), left_until(deadline)))
            finally:
                self._release_search()
            if not left_until(deadline):
                raise Timeout(f"{self.topic}: no worker was ready within the deadline")
            looks += 1

    def slots(self, deadline: float) -> list[int]:
        """Return the slots of the topic, connected to; those who are ready have a moment to say so."""
        try:
            if not self._acquire_search(deadline, wait=True):
                raise Timeout(f"{self.topic}: no worker was found within the deadline")
            slots = self.refresh(None)
            patience = min(time.monotonic() + _PATIENCE, deadline)
            while left_until(patience) and not all(each.usable or each.over for each in self._connections):
                self._await_hello(left_until(patience))
        finally:
            self._release_search()
        return slots

    def _acquire_search(self, deadline: float, *, wait: bool) -> bool:
        if not wait:
            return self._search.acquire(blocking=False)
        return self._search.acquire(timeout=-1 if deadline == math.inf else left_until(deadline))

    def _release_search(self) -> None:
        """Give the search up, if it is this thread's; where a signal's handler raised, nothing else tells."""
        try:  # noqa: SIM105 -- what is shorter gives a handler more steps to come between
            self._search.release()
        except RuntimeError:  # it is not
            pass

    def _await_hello(self, seconds: float) -> None:
        waiting = [connection.sock for connection in self._connections if not connection.over]
        until_ready(waiting, [], seconds)
        for connection in self._connections:
            connection.glance()
