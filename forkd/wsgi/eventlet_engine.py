"""The engine of green threads: an epoll of all connections inside the hub, and threads only where requests wait."""

from __future__ import annotations

import gc
import logging
import select
from functools import partial
from resource import RUSAGE_THREAD, getrusage
from typing import TYPE_CHECKING, Any

import eventlet.hubs
import eventlet.patcher
import greenlet
from eventlet.hubs.hub import READ, WRITE

from forkd.crews.gate import Gate
from forkd.crews.green import GreenCrew
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
_original_select = eventlet.patcher.original("select")  # which has an epoll

# One of the processes that share a listener is woken for a connection, not all of them.
_ONE_OF_MANY = select.EPOLLIN | select.EPOLLEXCLUSIVE

_BATCH = 64  # connections looked at in a turn: other green threads wait no longer for it than that


class GreenLoop(Loop):
    """As `Loop`, in the hub, which knows of one descriptor for all connections: the epoll that watches them.

    So a turn of the hub, which costs as much as a small request, is shared by all that have become readable.
    """

    def __init__(self, crew: GreenCrew[Connection], outlet: Outlet) -> None:
        super().__init__(_original_select.epoll())
        self.readers: dict[int, Any] = {}  # the greenlet that waits for a busy connection, by descriptor
        self._crew = crew
        self._outlet = outlet
        self._gate = Gate()
        self._hub: Any = eventlet.hubs.get_hub()
        self._listeners: dict[int, Listener] = {}
        self._entry: Any = None  # the hub's, for the epoll
        self._timer: Any = None
        self._stopped = False

    def start(self, reception: Reception) -> None:
        """As in `Loop`; the hub runs already."""
        self._reception = reception
        self._entry = self._hub.add(READ, self._epoll.fileno(), self._on_readable, _ignore, None)

    def stop(self) -> None:
        """As in `Loop`; the hub goes on, for others, and so does this for requests that are not over."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = True
        self._leave()

    def call(self, fn: Callable[..., object], *args: object) -> None:
        """As in `Loop`."""
        self._hub.schedule_call_global(0, self._turn, fn, *args)

    def wake_in(self, seconds: float) -> None:
        """As in `Loop`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._hub.schedule_call_global(seconds, self._turn, self._reception.sweep)

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

    def forget(self, conn: Connection) -> None:
        """As in `Loop`."""
        super().forget(conn)
        if self._stopped:
            self._leave()

    def _leave(self) -> None:
        if self._entry is not None and not self._connections:
            self._hub.remove(self._entry)
            self._entry = None

    def _turn(self, fn: Callable[..., object], *args: object) -> None:
        """Make a call, and have the requests served that have come of it."""
        self._crew.gather()
        try:
            fn(*args)
        finally:
            if self._crew.waiting > 1 and self._gate.is_open():
                _serve_together(self._crew, self._outlet, self._gate)
            else:
                self._crew.serve()

    def _on_acceptable(self, fd: int) -> None:
        listener = self._listeners.get(fd)
        if listener is None:
            return
        self._turn(self._reception.acceptable, listener)
        if fd in self._listeners:
            # To the end of the kernel's queue, or this process would get every connection until it is busy.
            self._hub.poll.unregister(fd)
            self._hub.poll.register(fd, _ONE_OF_MANY)

    def _on_readable(self, _: int) -> None:
        try:
            self._turn(self._look)
        except Exception:  # noqa: BLE001 -- a mistake of ours must not cost all connections: the hub would drop them
            _log.exception("the loop stumbled")

    def _look(self) -> None:
        readable = self._reception.readable
        for fd, _ in self._epoll.poll(0, _BATCH):
            conn = self._connections.get(fd)
            if conn is None:
                continue
            if conn.state != BUSY:
                readable(conn)
            elif fd in self.readers:
                wake(self.readers, fd)
            else:
                self._disarm(conn)


class GreenWaiter:
    """As `Waiter`: a green thread gives way to the hub."""

    def __init__(self, loop: GreenLoop) -> None:
        self._hub: Any = eventlet.hubs.get_hub()
        self._loop = loop
        self._writers: dict[int, Any] = {}

    def wait(self, conn: Connection, *, write: bool, timeout: float | None) -> bool:
        """As in `Waiter`."""
        waiters = self._writers if write else self._loop.readers
        me = waiters[conn.fd] = greenlet.getcurrent()
        listener = timer = None
        if write:
            listener = self._hub.add(WRITE, conn.fd, partial(wake, waiters), _ignore, None)
        else:
            self._loop.watch(conn)
        if timeout is not None:
            # Not whoever waits for the descriptor then: it may be another connection's.
            timer = self._hub.schedule_call_global(timeout, me.switch, False)
        try:
            return bool(self._hub.switch())
        finally:
            if waiters.get(conn.fd) is me:
                del waiters[conn.fd]
            if timer is not None:
                timer.cancel()
            if listener is not None:
                self._hub.remove(listener)

    def epoll(self) -> select.epoll:
        """As in `Waiter`."""
        found: select.epoll = _original_select.epoll()
        return found


class Undivided:
    """A block that the calling green thread passes at a stretch: no garbage is collected, whose finalizers may wait."""

    _collects = False  # at the end of it again

    def __enter__(self) -> None:
        if gc.isenabled():
            gc.disable()
            self._collects = True

    def __exit__(self, *_: object) -> None:
        if self._collects:
            self._collects = False
            gc.enable()


def _serve_together(crew: GreenCrew[Connection], outlet: Outlet, gate: Gate) -> None:
    """Serve who waits, and send what is theirs after that: only as long as they are quick."""
    count, before = crew.waiting, getrusage(RUSAGE_THREAD)
    outlet.open()
    try:
        crew.serve()
    finally:
        outlet.close()
    gate.judge(count, before, getrusage(RUSAGE_THREAD))
    crew.serve()  # what clients have not taken at once: else it would wait for the hub's next event


def wake(waiters: dict[int, Any], fd: int) -> None:
    """Let the greenlet that waits for a descriptor go on, if one does; a stale event of the hub finds none."""
    waiter = waiters.pop(fd, None)
    if waiter is not None:
        waiter.switch(True)


def create(group: ThreadGroup, serve: Callable[[Connection], None]) -> Engine:
    """Return an engine whose threads come from `group`."""
    crew = GreenCrew(group, serve)
    outlet = Outlet(int, Undivided(), crew.submit)  # int() is 0: all green threads are one
    loop = GreenLoop(crew, outlet)
    return Engine(loop, crew, GreenWaiter(loop), outlet, group.try_thread)


def _ignore(*_: object) -> None:
    """Take what the hub says to a greenlet that waits; here none does."""
