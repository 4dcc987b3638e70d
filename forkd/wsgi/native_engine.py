"""The engine of native threads: one thread at a time that watches all connections, and a crew that serves requests."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from forkd.crews.native import NativeCrew
from forkd.wsgi.connection import BUSY
from forkd.wsgi.engine import Engine, Loop
from forkd.wsgi.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.engine import Reception
    from forkd.wsgi.listener import Listener

_log = logging.getLogger("forkd.wsgi")

# One of the processes that share a listener is woken for a connection, not all of them.
_ONE_OF_MANY = select.EPOLLIN | select.EPOLLEXCLUSIVE


class NativeLoop(Loop):
    """As `Loop`: one thread of the group, which serves what is in its lane itself."""

    def __init__(self, group: ThreadGroup, crew: NativeCrew[Connection], outlet: Outlet) -> None:
        super().__init__(select.epoll())
        self._group = group
        self._crew = crew
        self._lane = crew.lane
        self._outlet = outlet
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._listeners: dict[int, Listener] = {}
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._sweep_at: float | None = None
        self._ended = threading.Event()
        self._stopped = threading.Event()

    def __del__(self) -> None:
        os.close(self._alarm)  # not sooner: a request that outlives the loop may still use it

    def start(self, reception: Reception) -> None:
        """As in `Loop`."""
        self._reception = reception
        self._group.add_loop(self._run)
        self._crew.open_lane(self._replace)

    def stop(self) -> None:
        """As in `Loop`."""
        self.call(self._ended.set)
        self._stopped.wait()

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

    def _replace(self) -> None:
        """Have another thread go on; what waits leaves before that, since the system may have none to give."""
        self._outlet.flush()
        self._group.add_loop(self._run)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._turn()
                if not self._serve():
                    return  # it took so long that another thread goes on with the loop
            except Exception:  # noqa: BLE001 -- a mistake of ours must not cost all connections
                _log.exception("the loop stumbled")
        self._stopped.set()

    def _serve(self) -> bool:
        """Serve who is in the lane, and send what is theirs after that; return whether the loop is this thread's."""
        if self._lane.waiting > 1:
            self._outlet.open()
        try:
            return self._lane.serve()
        finally:
            self._outlet.close()

    def _turn(self) -> None:
        timeout = -1.0 if self._sweep_at is None else max(0.0, self._sweep_at - time.monotonic())
        readable = self._reception.readable
        for fd, _ in self._epoll.poll(timeout):
            conn = self._connections.get(fd)
            if conn is not None:
                held = self._outlet.holds(conn)
                if conn.state == BUSY:
                    self._disarm(conn)
                elif not held:
                    readable(conn)
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

    def wait(self, conn: Connection, *, write: bool, timeout: float | None) -> bool:
        """As in `Waiter`."""
        poll = select.poll()
        poll.register(conn.fd, select.POLLOUT if write else select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def epoll(self) -> select.epoll:
        """As in `Waiter`."""
        return select.epoll()


def create(group: ThreadGroup, serve: Callable[[Connection], None]) -> Engine:
    """Return an engine whose threads come from `group`."""
    crew = NativeCrew(group, serve)
    outlet = Outlet(threading.get_ident, threading.Lock(), partial(crew.submit, slow=True))
    loop = NativeLoop(group, crew, outlet)
    return Engine(loop, crew, NativeWaiter(), outlet, group.try_thread)
