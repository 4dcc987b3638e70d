"""Where responses wait that are whole, until the loop has served all whose requests came together: then they leave.

To send takes the kernel's network code, and wakes a client; the application's code and data are out of the processor's
caches then, which costs more than most requests. So requests are served one after the other, and then answered.
"""

from __future__ import annotations

import math
import time
from _socket import SHUT_RDWR  # as in listener.py
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.wsgi import burst
from forkd.wsgi.burst import Burst
from forkd.wsgi.connection import BUSY, IDLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from forkd.wsgi.connection import Connection

_MOST = burst.MOST  # responses
_FEW = 3  # are sent as quickly one by one
_LONGEST = 0.002  # seconds until they leave, as soon as a request is over


class Outlet:
    """The responses that wait. They do while it is `open`, for the thread, native or green, that serves in the loop."""

    def __init__(
        self,
        thread: Callable[[], int],
        lock: AbstractContextManager[object],
        hand_over: Callable[[Connection], object],
    ) -> None:
        """To be called in the process that serves, and not in its loop.

        `thread` tells the calling one; `hand_over` gives a connection to one that sends its `rest`.

        `lock` is held for a system call that does not wait.
        """
        self._calling_thread = thread
        self._lock = lock
        self._hand_over = hand_over
        self._owner: int | None = None
        self._waiting: dict[Connection, bytes] = {}
        self._since = 0.0
        self._burst = Burst()

    def open(self) -> None:
        """Have the responses of the calling thread wait from now on."""
        self._owner = self._calling_thread()

    def close(self) -> None:
        """Have none of the calling thread wait from now on."""
        if self._owner == self._calling_thread():
            self._owner = None
        self.flush()

    def post(self, conn: Connection, response: bytes) -> bool:
        """Take a response that is whole; return False where it may not wait."""
        if self._owner != self._calling_thread():
            return False
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        self._waiting[conn] = response
        if now - self._since > _LONGEST or len(self._waiting) >= _MOST:
            self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as the clients take it at once."""
        if len(self._waiting) > _FEW:
            self._send_together()
        for conn in list(self._waiting):
            self._send(conn)

    def take(self, conn: Connection, *, stays: bool) -> bytes:
        """Return a response that waits, for the calling thread to send it; nothing where it `stays` and can wait."""
        if conn not in self._waiting or (stays and self._owner == self._calling_thread()):
            return b""
        with self._lock:
            return self._waiting.pop(conn, b"")

    def holds(self, conn: Connection) -> bool:
        """Return whether a response waits on a connection; to be asked before the connection's state is.

        A loop's thread that has lost the loop may be at the end of a request still. What the client has not taken then
        is left here for a moment, and nothing may be read from the connection before that has been handed over.
        """
        return conn in self._waiting

    def _send_together(self) -> None:
        """Send as much of it as may go by one system call; what is left, or has failed, is for `_send`."""
        with self._lock:
            waiting = list(self._waiting.copy().items())  # at once: another thread may post meanwhile
            # Not by `conn.fd`, which may be somebody else's once this one is closed.
            outcomes = self._burst.send([(conn.sock.fileno(), data) for conn, data in waiting])
            for at, sent in outcomes.items():
                conn, data = waiting[at]
                if sent == len(data):
                    del self._waiting[conn]
                elif sent > 0:
                    self._waiting[conn] = data[sent:]

    def _send(self, conn: Connection) -> None:
        with self._lock:
            data = self._waiting.get(conn)
            if data is None:  # another thread was faster
                return
            try:
                sent = conn.sock.send(data)
                data = data[sent:]
            except BlockingIOError:
                pass
            except OSError:
                data = b""
                with suppress(OSError):
                    conn.sock.shutdown(SHUT_RDWR)  # so that its end is the next thing to be read, whatever it was
            if data and conn.state != IDLE:  # its thread is at it still
                self._waiting[conn] = data
                return
            if data:
                conn.rest = data
                conn.deadline = math.inf
                conn.state = BUSY
            self._waiting.pop(conn, None)  # not sooner: see `holds`
        if data:
            self._hand_over(conn)
