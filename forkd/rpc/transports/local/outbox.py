"""What a worker writes to one client: at once as far as the socket takes it, and the rest by a loop of its own."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import Event, ThreadGroup

_log = logging.getLogger("forkd.rpc")

_CHUNK = 262144  # bytes written at once
_MOST = 64 << 20  # bytes; what is in flight when a client stops reading may be large, but not boundless
_STALL = 30.0  # seconds without a byte taken


class Outbox:
    """Frames for one client: each is written whole, or the connection ends. Any thread may send.

    `lock` is never held while waiting; it guards all here and the order of frames.
    """

    def __init__(self, sock: socket.socket, group: ThreadGroup, on_empty: Callable[[], object]) -> None:
        """`on_empty` is called, with the lock held, when nothing waits any more and when the connection is cut."""
        self.lock = threading.Lock()
        self.flushed: Event | None = None  # while a loop empties it
        self.cut = False
        self._sock = sock
        self._group = group
        self._on_empty = on_empty
        self._data = bytearray()

    def send(self, data: bytes) -> None:
        """Write a frame, now or when the client takes it; drop it when the client is gone. Never blocks nor raises."""
        with self.lock:
            if self.cut:
                return
            if not self._data:
                try:
                    data = data[self._sock.send(data) :]
                except BlockingIOError:  # all of it waits
                    pass
                except OSError:
                    self.cut_off()
                    return
            outlet = self._keep(data) if data else None
        if outlet is not None:
            self._start_flush(*outlet)

    def await_flush(self, timeout: float) -> None:
        """Wait until nothing waits, or the time is over."""
        flushed = self.flushed
        if flushed is not None and timeout:
            flushed.wait(timeout)

    def cut_off(self) -> None:
        """Make every use of the socket fail from now on, with the lock held; its descriptor stays."""
        if not self.cut:
            self.cut = True
            self._data.clear()
            with contextlib.suppress(OSError):  # the client was faster
                self._sock.shutdown(socket.SHUT_RDWR)
            self._on_empty()

    def _keep(self, data: bytes) -> tuple[socket.socket, Event] | None:
        """Have a frame, or the rest of one, wait, with the lock held.

        Return what a new loop is to flush by, if one is needed.
        """
        self._data += data
        if len(self._data) > _MOST:
            _log.warning("a caller was cut off: it takes no answers, and %d bytes wait", len(self._data))
            self.cut_off()
        elif self.flushed is None:
            try:
                sock = self._sock.dup()
            except OSError as error:
                _log.warning("a caller was cut off: it does not take its answers at once, and %s", error.strerror)
                self.cut_off()
                return None
            self.flushed = self._group.event()
            return sock, self.flushed
        return None

    def _start_flush(self, sock: socket.socket, flushed: Event) -> None:
        """Start the loop; without the lock, for in the hub it begins at once."""
        try:
            self._group.add_loop(self._flush, sock, flushed)
        except ForkdError:
            sock.close()
            flushed.set()
            self._end()

    def _flush(self, sock: socket.socket, flushed: Event) -> None:
        """Write until nothing waits; a loop with a descriptor of its own, whose waits are no one else's."""
        try:
            with sock:
                sock.settimeout(_STALL)
                while data := self._head():
                    self._drop(sock.send(data))
        except TimeoutError:
            _log.warning("a caller was cut off: it took nothing for %g s", _STALL)
            self._end()
        except OSError:  # it is gone
            self._end()
        finally:
            flushed.set()

    def _head(self) -> bytes:
        with self.lock:
            if not self._data:
                self.flushed = None
                self._on_empty()
            return bytes(self._data[:_CHUNK])

    def _drop(self, count: int) -> None:
        with self.lock:
            del self._data[:count]

    def _end(self) -> None:
        with self.lock:
            self.cut_off()
