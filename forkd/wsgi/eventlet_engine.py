"""The engine of green threads: callbacks in eventlet's hub, and a green thread only where there is a request."""

from __future__ import annotations

import select
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import eventlet.hubs
import eventlet.patcher
import greenlet
from eventlet.hubs.hub import READ, WRITE

from forkd.wsgi.connection import BUSY
from forkd.wsgi.engine import Crew, Engine, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.engine import Reception
    from forkd.wsgi.listener import Listener

# One of the processes that share a listener is woken for a connection, not all of them.
_ONE_OF_MANY = select.EPOLLIN | select.EPOLLEXCLUSIVE

_MOST_WAITING = 32  # green threads kept for the next request


class GreenLoop(Loop):
    """As `Loop`, in the hub. A connection has one listener in there from its accept to its close.

    It is taken out only when bytes come that nobody wants yet: the hub would call for them without end.
    """

    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}  # the greenlet that waits for a busy connection, by descriptor
        self._hub: Any = eventlet.hubs.get_hub()
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[int, Listener] = {}
        self._timer: Any = None

    def start(self, reception: Reception) -> None:
        """As in `Loop`; the hub runs already."""
        self._reception = reception

    def stop(self) -> None:
        """As in `Loop`; the hub goes on, for others."""
        if self._timer is not None:
            self._timer.cancel()

    def call(self, fn: Callable[..., object], *args: object) -> None:
        """As in `Loop`."""
        self._hub.schedule_call_global(0, fn, *args)

    def wake_in(self, seconds: float) -> None:
        """As in `Loop`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._hub.schedule_call_global(seconds, self._reception.sweep)

    def listen(self, listener: Listener) -> None:
        """As in `Loop`.

        The hub itself cannot register EPOLLEXCLUSIVE. An epoll of our own inside the hub's would wake every process.
        """
        if listener.fd not in self._listeners:
            self._listeners[listener.fd] = listener
            entry = self._hub.lclass(READ, listener.fd, self._on_acceptable, _ignore, None)
            self._hub.listeners[READ][listener.fd] = entry
            self._hub.poll.register(listener.fd, _ONE_OF_MANY)

    def unlisten(self, listener: Listener) -> None:
        """As in `Loop`."""
        if self._listeners.pop(listener.fd, None) is not None:
            self._hub.remove(self._hub.listeners[READ][listener.fd])

    def watch(self, conn: Connection) -> None:
        """As in `Loop`."""
        if conn.handle is None:
            self._connections[conn.fd] = conn
            if conn.fd in self._hub.listeners[READ]:
                self._hub.mark_as_reopened(conn.fd)  # someone closed a socket that a green thread was waiting for
            conn.handle = self._hub.add(READ, conn.fd, self._on_readable, _ignore, None)

    def release(self, conn: Connection) -> None:
        """As in `Loop`; the hub reports to one alone."""
        self._unwatch(conn)

    def forget(self, conn: Connection) -> None:
        """As in `Loop`."""
        self._unwatch(conn)
        self._connections.pop(conn.fd, None)

    def _on_acceptable(self, fd: int) -> None:
        listener = self._listeners.get(fd)
        if listener is None:
            return
        self._reception.acceptable(listener)
        if fd in self._listeners:
            # To the end of the kernel's queue, or this process would get every connection until it is busy.
            self._hub.poll.unregister(fd)
            self._hub.poll.register(fd, _ONE_OF_MANY)

    def _on_readable(self, fd: int) -> None:
        conn = self._connections.get(fd)
        if conn is None:
            return
        if conn.state != BUSY:
            self._reception.readable(conn)
        elif fd in self.readers:
            wake(self.readers, fd)
        else:
            self._unwatch(conn)

    def _unwatch(self, conn: Connection) -> None:
        if conn.handle is not None:
            self._hub.remove(conn.handle)
            conn.handle = None


class GreenWaiter:
    """As `Waiter`: a green thread gives way to the hub."""

    def __init__(self, loop: GreenLoop) -> None:
        self._hub: Any = eventlet.hubs.get_hub()
        self._loop = loop
        self._writers: dict[int, Any] = {}

    def wait(self, conn: Connection, *, write: bool, timeout: float | None) -> bool:
        """As in `Waiter`."""
        waiters = self._writers if write else self._loop.readers
        waiters[conn.fd] = greenlet.getcurrent()
        listener = timer = None
        if write or conn.upgraded is not None:
            # For its own connection an application may have a selector, so nothing of ours stays in the hub.
            listener = self._hub.add(WRITE if write else READ, conn.fd, partial(wake, waiters), _ignore, None)
        else:
            self._loop.watch(conn)
        if timeout is not None:
            timer = self._hub.schedule_call_global(timeout, wake, waiters, conn.fd, answer=False)
        try:
            return bool(self._hub.switch())
        finally:
            waiters.pop(conn.fd, None)
            if timer is not None:
                timer.cancel()
            if listener is not None:
                self._hub.remove(listener)

    def epoll(self) -> select.epoll:
        """As in `Waiter`."""
        found: select.epoll = eventlet.patcher.original("select").epoll()
        return found


class GreenCrew(Crew):
    """As `Crew`: a green thread for each request, begun at once, and those too many wait for one to end.

    A few stay for the next request: to begin one costs the kernel's unmapping and mapping of its stack. They are at
    most half of the group's threads, so that others who want one find it.
    """

    def __init__(self, group: ThreadGroup, serve: Callable[[Connection], None]) -> None:
        self._group = group
        self._serve = serve
        self._hub: Any = eventlet.hubs.get_hub()
        self._queue: deque[Connection] = deque()
        self._waiting: list[Any] = []
        self._most_waiting = min(_MOST_WAITING, group.limit // 2)

    def submit(self, conn: Connection) -> None:
        """As in `Crew`."""
        if self._waiting:
            self._waiting.pop().switch(conn)
        elif self._group.try_thread(self._work, conn) is None:
            (self._queue.appendleft if conn.private else self._queue.append)(conn)

    def nudge(self) -> None:
        """As in `Crew`."""
        if self._queue:
            conn = self._queue.popleft()
            if self._group.try_thread(self._work, conn) is None:
                self._queue.appendleft(conn)

    def dismiss(self) -> None:
        """As in `Crew`."""
        self._most_waiting = 0
        while self._waiting:
            self._hub.schedule_call_global(0, self._waiting.pop().switch, None)

    def _work(self, conn: Connection | None) -> None:
        while conn is not None:
            self._serve(conn)
            conn = self._queue.popleft() if self._queue else self._next()

    def _next(self) -> Connection | None:
        """Return the next connection to serve; None: the calling thread is to end."""
        if len(self._waiting) >= self._most_waiting:
            return None
        me = greenlet.getcurrent()
        self._waiting.append(me)
        try:
            conn: Connection | None = self._hub.switch()
        except BaseException:  # it is told to stop
            if me in self._waiting:
                self._waiting.remove(me)
            raise
        return conn


def wake(waiters: dict[int, Any], fd: int, *, answer: bool = True) -> None:
    """Let the greenlet that waits for a descriptor go on, if one does; a stale event of the hub finds none."""
    waiter = waiters.pop(fd, None)
    if waiter is not None:
        waiter.switch(answer)


def create(group: ThreadGroup, serve: Callable[[Connection], None]) -> Engine:
    """Return an engine whose threads come from `group`."""
    loop = GreenLoop()
    return Engine(loop, GreenCrew(group, serve), GreenWaiter(loop), group.try_thread)


def _ignore(*_: object) -> None:
    """Take what the hub says to a greenlet that waits; here none does."""
