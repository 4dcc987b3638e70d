"""One run of a task under its lease: the lease is renewed in time, or the run ends before anyone else's can begin.

What follows when is counted in parts of a lease, from before the last question that the backend has said yes to.
"""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Any

from forkd.lease.deadline import now
from forkd.lease.lease import Lease, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.lease.contact import Contact
    from forkd.lease.deadline import Deadline
    from forkd.threadgroup import ThreadGroup
    from forkd.threadgroup.engine import Event, Thread

_log = logging.getLogger("forkd.periodic")

RENEW = 0.2  # a renewal is due
AGAIN = 0.05  # how long after one that failed the next one is
LOST = 0.75  # the lease counts as lost: the task is told, and a green thread interrupted
ABORT = 0.9  # the process ends, and shows its stacks
KILL = 0.95  # it is killed; the rest is for clocks that go at another pace, and for what the task has started

_GRACE = 0.1  # seconds until the end, for a task that somebody else may have begun already
_LAST_WORDS = 0.01  # seconds that it takes to log them


class Tenure:
    """A run, from its grant to its end; the kernel has orders to end this process when that does not come in time."""

    def __init__(self, contact: Contact, lease: Lease, sent: float, deadline: Deadline) -> None:
        """Begin with a grant that was asked for at `sent`, on the clock of deadlines."""
        self._contact = contact
        self._lease = lease
        self._ttl = contact.address.ttl
        self._deadline = deadline
        self._caller: Thread | None = None
        self._lock = threading.Lock()
        self._over = False
        self._due = self._lost = self._abort = 0.0
        self._extend(sent)

    def run(self, group: ThreadGroup, call: Callable[[], Any]) -> Any:
        """Make the call in this thread; return and raise what it does. Raise `ForkdError` when the group is stopped."""
        over = group.event()
        self._caller = group.current()
        try:
            group.add_attendant(self._keep, group, over)
            if now() >= self._lost:
                self._lose("it was too late when it came")
            self._lease.check()
            return call()
        finally:
            self.end()
            over.set()

    def end(self) -> None:
        """Let the process live on: the run is over."""
        with self._lock:
            self._over = True
            self._deadline.clear()

    def _keep(self, group: ThreadGroup, over: Event) -> None:
        """Have the lease renewed until the run is over; if that fails, see to its end."""
        while not self._lease.lost and not over.wait(self._pause()):
            if now() >= self._lost:
                self._lose("it could not be renewed in time")
            elif now() >= self._due:
                self._due = math.inf
                group.add_attendant(self._renew)  # by another thread: an answer that never comes must hold up nothing
        if self._lease.lost and not over.wait(max(0.0, self._abort - now() - _LAST_WORDS)):
            _log.critical("task %s still runs without its lease: this process ends now", self._lease.task)

    def _pause(self) -> float:
        """Return for how long there is nothing to do; while an answer is awaited, that is looked at now and then."""
        soonest = now() + AGAIN * self._ttl if self._due == math.inf else self._due
        return max(0.0, min(soonest, self._lost) - now())

    def _renew(self) -> None:
        """Try once."""
        sent = now()
        renewed = self._contact.ask(self._contact.backend.renew, self._lease.task, self._lease.token)
        if renewed:
            self._extend(sent)
        elif renewed is None:
            self._due = now() + AGAIN * self._ttl
        else:
            self._lose("somebody else may have it")
            self._set(now() + _GRACE, now() + 1.5 * _GRACE)

    def _extend(self, sent: float) -> None:
        if not self._lease.lost:
            self._set(sent + ABORT * self._ttl, sent + KILL * self._ttl)
            self._lost = sent + LOST * self._ttl
            self._due = sent + RENEW * self._ttl

    def _set(self, abort: float, kill: float) -> None:
        with self._lock:
            if not self._over:
                self._abort = abort
                self._deadline.set(abort, kill)

    def _lose(self, why: str) -> None:
        """Tell the task; who waits in a green thread is interrupted."""
        if self._over or self._lease.lost:
            return
        self._lease.lose()
        _log.error("task %s has lost its lease, token %d: %s", self._lease.task, self._lease.token, why)
        if self._caller is not None:
            self._caller.interrupt(LeaseLost(self._lease), lambda: not self._over)
