"""A connection to a broker whose bytes any thread may send, and one at a time receive; nothing here waits.

What is sent is written, as far as the socket takes it, by whoever comes first, for all who have come by then: under
load many calls go out in one piece. What the socket does not take is for a later `push`.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.rpc.transports.amqp import frames

if TYPE_CHECKING:
    from forkd.rpc.transports.amqp.frames import Message, Method

_READ = 65536
_FULL = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Lost(ForkdError):
    """The connection has ended; the text says why."""


class Link:
    """One connection. Chunks go out whole and in the order of `put`, or not at all."""

    def __init__(self, connection: Any) -> None:
        """Take over py-amqp's connection, on which all is declared; nobody else may use it from now on."""
        self.frame_max: int = connection.frame_max
        self.last_sent = self.last_heard = time.monotonic()
        self.written = self.begun = 0  # chunks, counted as `put` numbers them: all of it, perhaps some of it
        self._connection = connection  # whose end would close the socket
        self._sock = connection.sock
        self._sock.setblocking(False)
        # OpenSSL's state is one for both directions, and nobody may write while another reads.
        self._tls: Any = threading.Lock() if connection.ssl else contextlib.nullcontext()
        self._frames = frames.Reader(self.frame_max)
        self._order = threading.Lock()
        self._sent = 0
        self._chunks: collections.deque[bytes] = collections.deque()
        self._writing = threading.Lock()  # guards the two below
        self._rest: bytes | memoryview = b""  # of what is being written
        self._taken = 0  # how many chunks that is
        self._full = False  # the socket took no more at the last try

    @property
    def socket(self) -> socket.socket:
        """What to wait for; for nothing else."""
        sock: socket.socket = self._sock
        return sock

    @property
    def is_full(self) -> bool:
        """Whether something waits for the socket to take more."""
        return self._full and self.written < self._sent

    def send(self, chunk: bytes) -> None:
        """Have whole frames written, now or by a later `push`. Never raises."""
        self.put(chunk)
        self.push()

    def put(self, chunk: bytes) -> int:
        """Have whole frames written by the next `push`; return the chunk's number."""
        with self._order:
            self._chunks.append(chunk)
            self._sent += 1
            return self._sent

    def push(self) -> None:
        """Write what waits, as far as the socket takes it; leave it to another thread that does. Never raises."""
        while self.written < self._sent and self._writing.acquire(blocking=False):
            try:
                self._full = not self._push()
                if self._full:
                    return
            finally:
                self._writing.release()

    def receive(self) -> list[Message | Method]:
        """Return what has come; raise `Lost` at the end of the connection."""
        try:
            data = self._read()
        except _FULL:
            return []
        except OSError as error:
            raise Lost(error.strerror or str(error)) from None
        if not data:
            raise Lost("the broker ended the connection without a word")
        self.last_heard = time.monotonic()
        try:
            return list(self._frames.feed(data))
        except frames.BROKEN as error:
            raise Lost(f"the broker sends what nobody can read: {error}") from None

    def part(self, method: Method) -> Lost:
        """Confirm the broker's close of the connection or of its only channel, and return what that means."""
        if method.method == frames.CONNECTION_CLOSE:
            self.send(frames.method(0, frames.CONNECTION_CLOSE_OK))
        return Lost(f"the broker ended it: {frames.reason(method.arguments)}")

    def shut(self) -> None:
        """End the connection for both sides and wake who waits for it; its descriptor stays until `close`."""
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back; for who knows that nobody waits for it."""
        with self._writing:
            self._connection.transport.sock = None  # py-amqp would write a last word
            self._sock.close()

    def forget(self) -> None:
        """Close a parent's descriptor in its fork: no word to the broker, no lock."""
        self._connection.transport.sock = None
        self._sock.close()

    def _read(self) -> bytes:
        with self._tls:
            data: bytes = self._sock.recv(_READ)
            while data and self._connection.ssl and self._sock.pending():  # nobody would be woken for it
                data += self._sock.recv(_READ)
        return data

    def _push(self) -> bool:
        """Write once; return whether the socket took something."""
        if not self._rest:
            chunks = []
            with contextlib.suppress(IndexError):
                while True:
                    chunks.append(self._chunks.popleft())
            self._rest = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._taken = len(chunks)
        try:
            with self._tls:
                count = self._sock.send(self._rest)
        except _FULL:
            return False
        except OSError:
            return False  # whoever receives is told why
        self.last_sent = time.monotonic()
        self.begun = self.written + self._taken
        self._rest = memoryview(self._rest)[count:] if count < len(self._rest) else b""
        if not self._rest:
            self.written += self._taken
        return True
