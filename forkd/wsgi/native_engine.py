"""The engine of native threads: one thread with an epoll of all connections, and a crew that serves requests."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.wsgi.connection import BUSY
from forkd.wsgi.engine import Crew, Engine, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import Thread, ThreadGroup
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.engine import Reception
    from forkd.wsgi.listener import Listener

_log = logging.getLogger("forkd.wsgi")

# A connection reports once, and then belongs to whoever took the report, until it is armed again: no lock is needed.
_ONCE = select.EPOLLIN | select.EPOLLONESHOT
# One of the processes that share a listener is woken for a connection, not all of them.
_ONE_OF_MANY = select.EPOLLIN | select.EPOLLEXCLUSIVE
_PARKED = 2.0  # seconds that a thread waits for another request before it ends


class NativeLoop(Loop):
    """As `Loop`: one thread of the group, which never serves a request itself."""

    def __init__(self, group: ThreadGroup) -> None:
        self._group = group
        self._epoll = select.epoll()
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._alarm)  # not sooner: a request that outlives the loop may still use it
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[int, Listener] = {}
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._sweep_at: float | None = None
        self._ended = threading.Event()
        self._thread: Thread | None = None

    def start(self, reception: Reception) -> None:
        """As in `Loop`."""
        self._reception = reception
        self._thread = self._group.add_loop(self._run)

    def stop(self) -> None:
        """As in `Loop`."""
        self.call(self._ended.set)
        if self._thread is not None:
            self._thread.wait()

    def call(self, fn: Callable[..., object], *args: object) -> None:
        """As in `Loop`."""
        self._calls.append((fn, args))
        os.eventfd_write(self._alarm, 1)

    def wake_in(self, seconds: float) -> None:
        """As in `Loop`."""
        self._sweep_at = time.monotonic() + seconds

    def listen(self, listener: Listener) -> None:
        """As in `Loop`."""
        if listener.fd not in self._listeners:
            self._listeners[listener.fd] = listener
            self._epoll.register(listener.fd, _ONE_OF_MANY)

    def unlisten(self, listener: Listener) -> None:
        """As in `Loop`."""
        if self._listeners.pop(listener.fd, None) is not None:
            self._epoll.unregister(listener.fd)

    def watch(self, conn: Connection) -> None:
        """As in `Loop`."""
        if conn.handle is None:
            conn.handle = self._epoll
            self._connections[conn.fd] = conn
            self._epoll.register(conn.fd, _ONCE)
        else:
            with suppress(OSError):  # the loop has found it too long idle in this very moment, and closed it
                self._epoll.modify(conn.fd, _ONCE)

    def forget(self, conn: Connection) -> None:
        """As in `Loop`."""
        if conn.handle is not None:
            conn.handle = None
            self._connections.pop(conn.fd, None)
            self._epoll.unregister(conn.fd)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._turn()
            except Exception:  # noqa: BLE001 -- a mistake of ours must not cost all connections
                _log.exception("the loop stumbled")

    def _turn(self) -> None:
        timeout = -1.0 if self._sweep_at is None else max(0.0, self._sweep_at - time.monotonic())
        for fd, _ in self._epoll.poll(timeout):
            conn = self._connections.get(fd)
            if conn is not None:
                # Busy: it was armed by the thread of its last request just after a sweep had found the next one.
                if conn.state != BUSY and self._reception.readable(conn):
                    self.watch(conn)
            elif fd in self._listeners:
                self._reception.acceptable(self._listeners[fd])
                if fd in self._listeners:
                    # To the end of the kernel's queue, or this process would get every connection until it is busy.
                    self._epoll.unregister(fd)
                    self._epoll.register(fd, _ONE_OF_MANY)
            elif fd == self._alarm:
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
        while self._calls:
            fn, args = self._calls.popleft()
            fn(*args)
        if self._sweep_at is not None and time.monotonic() >= self._sweep_at:
            self._sweep_at = None
            self._reception.sweep()


class NativeWaiter:
    """As `Waiter`: the thread sleeps in a poll of its own."""

    def wait(self, conn: Connection, *, write: bool, timeout: float) -> bool:
        """As in `Waiter`."""
        poll = select.poll()
        poll.register(conn.fd, select.POLLOUT if write else select.POLLIN)
        return bool(poll.poll(timeout * 1000))


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

    def __init__(self, group: ThreadGroup, serve: Callable[[Connection], None]) -> None:
        self._group = group
        self._serve = serve
        self._lock = threading.Lock()
        self._queue: deque[Connection] = deque()
        self._waiting: list[_Member] = []
        self._most_waiting = max(1, group.limit // 2)
        self._dismissed = False

    def submit(self, conn: Connection) -> None:
        """As in `Crew`."""
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


def create(group: ThreadGroup, serve: Callable[[Connection], None]) -> Engine:
    """Return an engine whose threads come from `group`."""
    return Engine(NativeLoop(group), NativeCrew(group, serve), NativeWaiter())
