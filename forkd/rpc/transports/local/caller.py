"""One client's connection at the worker: reads its calls, writes its answers; whatever it does hurts nobody else.

Answers are written by the threads that ran the calls, as far as the socket takes them at once. The rest waits in an
outbox that a loop of its own empties; until then nothing more is read from this client, so what it can pile up is
bounded. A client that takes nothing for too long, or too much, is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

from forkd.errors import ForkdError, ProtocolError
from forkd.rpc.wire import Frames, request

if TYPE_CHECKING:
    from forkd.rpc.dispatcher import Dispatcher
    from forkd.threadgroup import Event, ThreadGroup

_log = logging.getLogger("forkd.rpc")

_READ = 65536
_OUTBOX = 64 << 20  # bytes; what is in flight when a client stops reading may be large, but not boundless
_STALL = 30.0  # seconds without a byte taken


class Caller:
    """A connection: read by one loop, written by any thread; a frame is written whole or the connection ends."""

    def __init__(self, sock: socket.socket, dispatcher: Dispatcher, group: ThreadGroup) -> None:
        self._sock = sock
        self._dispatcher = dispatcher
        self._group = group
        self._lock = threading.Lock()  # never held while waiting; guards the outbox and the order of frames
        self._outbox = bytearray()
        self._flushed: Event | None = None  # while a loop empties the outbox
        self._cut = False

    def serve(self) -> None:
        """Submit calls until the client goes or misbehaves."""
        frames = Frames()
        try:
            while data := self._read():
                for message in frames.feed(data):
                    self._dispatcher.submit(request(message), self.send)
                self._await_flush(None)
        except ProtocolError as error:
            _log.warning("a caller was cut off: %s", error)
        finally:
            self.close()

    def send(self, data: bytes) -> None:
        """Write a frame, now or when the client takes it; drop it when the client is gone. Never blocks nor raises."""
        with self._lock:
            if self._cut:
                return
            if not self._outbox:
                try:
                    with contextlib.suppress(BlockingIOError):  # all of it goes into the outbox then
                        data = data[self._sock.send(data) :]
                except OSError:
                    self._cut_off()
                    return
            if data:
                self._keep(data)

    def hang_up(self, patience: float) -> None:
        """End the connection, after what waits in the outbox is written or `patience` seconds have passed.

        The loop that reads ends by this, and closes.
        """
        self._await_flush(patience)
        with self._lock:
            self._cut_off()

    def close(self) -> None:
        """Give the descriptor back: for the loop that reads, since nobody may close what another waits for."""
        with self._lock:
            self._cut_off()
            self._sock.close()

    def _read(self) -> bytes:
        """Return what has come, at least a byte; nothing at the end."""
        while not self._cut:
            self._group.wait_readable(self._sock.fileno())
            try:
                return self._sock.recv(_READ)
            except BlockingIOError:
                continue
            except OSError:
                break
        return b""

    def _await_flush(self, timeout: float | None) -> None:
        flushed = self._flushed
        if flushed is not None and timeout != 0:
            flushed.wait(timeout)

    def _keep(self, data: bytes) -> None:
        """Put a frame, or the rest of one, into the outbox, with the lock held."""
        self._outbox += data
        if len(self._outbox) > _OUTBOX:
            _log.warning("a caller was cut off: it takes no answers, and %d bytes wait", len(self._outbox))
            self._cut_off()
        elif self._flushed is None:
            self._flushed = self._group.event()
            try:
                self._group.add_loop(self._flush, self._sock.dup(), self._flushed)
            except (ForkdError, OSError):
                self._flushed.set()
                self._cut_off()

    def _flush(self, sock: socket.socket, flushed: Event) -> None:
        """Write the outbox until it is empty; a loop with a descriptor of its own, whose waits are no one else's."""
        try:
            with sock:
                sock.settimeout(_STALL)
                while data := self._head():
                    self._drop(sock.send(data))
        except TimeoutError:
            _log.warning("a caller was cut off: it took nothing for %g s", _STALL)
            self.hang_up(0.0)
        except OSError:  # it is gone
            self.hang_up(0.0)
        finally:
            flushed.set()

    def _head(self) -> bytes:
        with self._lock:
            if not self._outbox:
                self._flushed = None
            return bytes(self._outbox[: 4 * _READ])

    def _drop(self, count: int) -> None:
        with self._lock:
            del self._outbox[:count]

    def _cut_off(self) -> None:
        """Make every use of the socket fail from now on, with the lock held; its descriptor stays until `close`."""
        if not self._cut:
            self._cut = True
            self._outbox.clear()
            with contextlib.suppress(OSError):  # the client was faster
                self._sock.shutdown(socket.SHUT_RDWR)
