"""Every connection of this process that is open, and how each of them ends; it reads no request.

Its methods may be called by the loop and by requests' threads, each for a connection that is its own at the time.
"""

from __future__ import annotations

import math
import time
from _socket import SHUT_RDWR, SHUT_WR  # as in listener.py
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.wsgi.connection import BUSY, CLOSED, IDLE, LINGER, PREFACE, RECEIVE_SIZE, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import Event
    from forkd.wsgi.engine import Loop
    from forkd.wsgi.options import Options
    from forkd.wsgi.upgrade import Upgrade

LINGER_TIMEOUT = 1.0  # seconds without a byte after which a client that was answered for the last time is given up
LONGEST_LINGER = 30.0  # seconds that one may go on sending a body which nobody wants


class Connections:
    """The open connections and their deadlines.

    `keeps`: they are kept open for another request, which a drain ends. When the last one is gone after that, `empty`
    is set. `on_room` is called when one has gone while `full` was set. `upgrades`: those that
    are left to the application.
    """

    def __init__(self, loop: Loop, options: Options, empty: Event) -> None:
        self.keeps = options.keepalive_timeout > 0
        self.full = False
        self.on_room: Callable[[], None] | None = None
        self._open: set[Connection] = set()
        self._loop = loop
        self._empty = empty
        self._keepalive = options.keepalive_timeout
        self._draining = False
        self._drain_by = math.inf  # until then those may stay that are idle
        self.upgrades: set[Upgrade] = set()
        self._all_by = math.inf  # until then they are left alone, and who still sends what nobody wants
        self._only_upgrades = False
        timeouts = (options.keepalive_timeout, options.header_timeout, LINGER_TIMEOUT)
        # No deadline is ever set nearer than this, so looking at them all this often misses none.
        self.period = min(timeout for timeout in timeouts if timeout)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, conn: Connection) -> None:
        """Take in a connection that was just accepted."""
        self._open.add(conn)

    def keep(self, conn: Connection, now: float) -> None:
        """Let a connection wait for its next request, from a monotonic instant on."""
        if conn.tls is not None and not self.go_on(conn):
            return
        conn.buffer = conn.buffer or None  # what it may hold are blank lines
        conn.deadline = now + self._keepalive
        conn.state = IDLE
        self._loop.watch(conn)

    def go_on(self, conn: Connection) -> bool:
        """Return whether more may come on a connection; with TLS its end may have come with the bytes before.

        Then it is closed here, since nothing will report that end again.
        """
        if conn.tls is None or not conn.tls.ended or conn.state == LINGER:
            return True
        self.close(conn)
        return False

    def close(self, conn: Connection) -> None:
        """Close a connection for good."""
        conn.state = CLOSED
        self._loop.forget(conn)
        conn.sock.close()
        self._open.discard(conn)
        if self.full and self.on_room is not None:
            self._loop.call(self.on_room)
        if self._draining:
            self._end_soon()

    def give(self, conn: Connection, upgrade: Upgrade) -> None:
        """Leave a busy connection to the application; in the request's thread."""
        conn.upgraded = upgrade
        self.upgrades.add(upgrade)
        conn.deadline = self._all_by
        if self._draining:
            self._end_soon()

    def linger(self, conn: Connection) -> bool:
        """End our half of a connection, and read on until the client ends the other one; return whether it is open.

        To close a socket that has unread bytes, or gets some later, makes the kernel reset the connection, and a reset
        can overtake the response (RFC 9112, section 9.6).
        """
        conn.buffer = None
        try:
            conn.sock.shutdown(SHUT_WR)
        except OSError:
            self.close(conn)
            return False
        now = time.monotonic()
        conn.cutoff = now + LONGEST_LINGER
        conn.deadline = now + LINGER_TIMEOUT
        conn.state = LINGER
        return True

    def linger_on(self, conn: Connection) -> None:
        """As `linger`, and give the connection back to the loop."""
        if self.linger(conn):
            self._loop.watch(conn)

    def drop_bytes(self, conn: Connection) -> bool:
        """Read what a lingering client still sends; return whether it is open."""
        try:
            open_ = bool(conn.sock.recv(RECEIVE_SIZE))
        except BlockingIOError:
            return True
        except OSError:
            open_ = False
        if not open_:
            self.close(conn)
            return False
        conn.deadline = min(conn.cutoff, time.monotonic() + LINGER_TIMEOUT)
        return True

    def due(self, now: float) -> tuple[list[Connection], float]:
        """Return those whose deadline has passed, and the seconds until this is to be asked again."""
        late = []
        nearest = now + self.period
        for conn in list(self._open):
            deadline = conn.deadline
            if conn.state in (IDLE, PREFACE):
                deadline = min(deadline, self._drain_by)
            elif conn.state == LINGER:
                deadline = min(deadline, self._all_by)
            if deadline <= now:
                late.append(conn)
            elif deadline < nearest:
                nearest = deadline
        return late, max(nearest - now, self.period / 8)

    def drain(self, patience: float, most: float) -> None:
        """Take it that no connection will be added, and that idle ones stay `patience` seconds at most.

        Those that were left to the application stay until there are no others, and `most` seconds at most: then it is
        told that they have ended. Those that linger stay no longer either.
        """
        now = time.monotonic()
        self._drain_by = now + patience
        self._all_by = now + most
        self._draining = True
        self.keeps = False
        for conn in list(self._open):
            if conn.upgraded is not None:
                conn.deadline = self._all_by
        self._end_soon()

    def _end_soon(self) -> None:
        """Draining: say so when the last connection has gone, and end what only the application would end."""
        if not self._open:
            self._empty.set()
        elif not self._only_upgrades and len(self._open) == len(self.upgrades):
            self._only_upgrades = True
            for upgrade in list(self.upgrades):
                upgrade.end_input()

    def cut(self) -> None:
        """End every connection at once; the thread that serves one finds its socket shut down, and closes it."""
        for conn in list(self._open):
            if conn.state == BUSY:
                with suppress(OSError):
                    conn.sock.shutdown(SHUT_RDWR)
            else:
                self.close(conn)
