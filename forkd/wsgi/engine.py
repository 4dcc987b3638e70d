"""What the server needs of an engine, eventlet's or native threads': a loop for readiness, threads for requests."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from forkd.crews import Crew
from forkd.wsgi.connection import BUSY, CLOSED, Connection, Waiter
from forkd.wsgi.listener import Listener
from forkd.wsgi.outlet import Outlet

if TYPE_CHECKING:
    from select import epoll

# What `Connection.handle` says: whether the kernel reports what comes. It does as long as nobody minds, since most
# requests are answered before their client sends another one; to tell the kernel takes a system call each time.
_ARMED, _DISARMED = "armed", "disarmed"
_SILENT = select.EPOLLONESHOT  # an error, which cannot be asked not to be reported, once


class Reception(NamedTuple):
    """Whom the loop tells what happens; each is called in the loop, and neither blocks nor raises."""

    acceptable: Callable[[Listener], None]
    """Someone waits at a listener."""
    readable: Callable[[Connection], object]
    """Bytes, or the end of them, have come on a connection that is not busy."""
    sweep: Callable[[], None]
    """The time that was asked for by `wake_in` has passed."""


class Loop(ABC):
    """Watches sockets in one thread, or in none.

    A connection that is watched is the loop's; the `Reception` may give it to a request's thread, and `watch` gives
    it back. `watch`, `forget` and `call` may be used by any thread, the others by the loop alone, once it runs.
    """

    def __init__(self, epoll: epoll) -> None:
        """Watch connections by an epoll of its own: it is told of each at its accept, and hardly ever again."""
        self._epoll = epoll
        self._connections: dict[int, Connection] = {}

    @abstractmethod
    def start(self, reception: Reception) -> None:
        """Run it."""

    @abstractmethod
    def stop(self) -> None:
        """End it, and return when it has ended."""

    @abstractmethod
    def call(self, fn: Callable[..., object], *args: object) -> None:
        """Call `fn(*args)` in the loop, soon."""

    @abstractmethod
    def wake_in(self, seconds: float) -> None:
        """Have `sweep` called after so many seconds; the last word counts."""

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """Report connections that wait at a listener."""

    @abstractmethod
    def unlisten(self, listener: Listener) -> None:
        """Report them no more."""

    def watch(self, conn: Connection) -> None:
        """Report when a connection becomes readable."""
        if conn.handle is None:
            conn.handle = _ARMED
            self._connections[conn.fd] = conn
            self._epoll.register(conn.fd, select.EPOLLIN)
        elif conn.handle is _DISARMED:
            self._arm(conn)

    def forget(self, conn: Connection) -> None:
        """Let go of a connection that is about to be closed."""
        if conn.handle is not None:
            conn.handle = None
            self._connections.pop(conn.fd, None)
            self._epoll.unregister(conn.fd)

    def _arm(self, conn: Connection) -> None:
        conn.handle = _ARMED
        with suppress(OSError):  # the loop has found it too long idle in this very moment, and closed it
            self._epoll.modify(conn.fd, select.EPOLLIN)

    def _disarm(self, conn: Connection) -> None:
        """Have what comes on a busy connection reported no more: its thread reads it, or it waits for its turn."""
        if conn.handle is not _ARMED:
            return
        conn.handle = _DISARMED
        with suppress(OSError):  # as above
            self._epoll.modify(conn.fd, _SILENT)
        if conn.state not in (BUSY, CLOSED):  # it has just been given back, and perhaps armed before this
            self._arm(conn)


class Engine(NamedTuple):
    """The parts of one engine."""

    loop: Loop
    crew: Crew[Connection]
    waiter: Waiter
    outlet: Outlet
    aside: Callable[..., object]
    """Calls a function with its arguments in a thread, for what the loop must not do; not at all if there is none."""
