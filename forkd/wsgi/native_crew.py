"""Native threads that serve requests: they come from the service's group, and wait a while for the next one."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.wsgi.engine import Crew

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.lane import Lane

_PARKED = 2.0  # seconds that a thread waits for another request before it ends


class _Member:
    """A thread that waits for work: whoever takes it off the list of those that wait gives it some, and rings."""

    __slots__ = ("bell", "conn")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.conn: Connection | None = None


class NativeCrew(Crew):
    """As `Crew`: connections with a request that no thread has taken, or threads without a request; never both.

    At most half of the group's threads wait for work, so that others who want a thread of the group find one. The
    last one to wait is the first to work, so the others get their rest, and end.
    """

    def __init__(self, group: ThreadGroup, serve: Callable[[Connection], None], lane: Lane) -> None:
        self._group = group
        self._serve = serve
        self._lane = lane
        self._lock = threading.Lock()
        self._queue: deque[Connection] = deque()
        self._waiting: list[_Member] = []
        self._most_waiting = max(1, group.limit // 2)
        self._dismissed = False

    def submit(self, conn: Connection) -> None:
        """As in `Crew`."""
        # One that asks for another protocol is likely to take long.
        upgrades = conn.request is not None and conn.request.upgrades
        if conn.private or upgrades or self._queue or not self._lane.admit(conn):
            self.enqueue(conn)

    def enqueue(self, conn: Connection) -> None:
        """Have a connection's request served by a thread of the crew."""
        with self._lock:
            if self._waiting:
                member = self._waiting.pop()
                member.conn = conn
                member.bell.release()
                return
            (self._queue.appendleft if conn.private else self._queue.append)(conn)
        self._hire()

    def nudge(self) -> None:
        """As in `Crew`."""
        if self._queue:
            self._hire()

    def dismiss(self) -> None:
        """As in `Crew`."""
        with self._lock:
            self._dismissed = True
            while self._waiting:
                self._waiting.pop().bell.release()

    def _hire(self) -> None:
        with suppress(ForkdError):  # the system has no thread to give: those that are there go through the queue
            self._group.try_thread(self._work)

    def _work(self) -> None:
        me = _Member()
        while conn := self._next(me):
            self._serve(conn)

    def _next(self, me: _Member) -> Connection | None:
        """Return the next connection to serve; None: the calling thread is to end."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._dismissed or len(self._waiting) >= self._most_waiting:
                return None
            me.conn = None
            self._waiting.append(me)
        if not me.bell.acquire(timeout=_PARKED):
            with self._lock:
                if me in self._waiting:
                    self._waiting.remove(me)
                    return None
            me.bell.acquire()  # it was given something in this very moment
        return me.conn
