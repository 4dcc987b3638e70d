"""One client's connection: its socket, what was received and not yet used, and how a request's thread uses it."""

from __future__ import annotations

import errno
import os
import sys
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Protocol

from forkd.wsgi.refusal import BodyRefused, ClientGone

if TYPE_CHECKING:
    from select import epoll

    from forkd.wsgi.head import Request
    from forkd.wsgi.listener import Listener
    from forkd.wsgi.tls import Tls, TlsSocket
    from forkd.wsgi.upgrade import Upgrade

RECEIVE_SIZE = 65536
STALL_TIMEOUT = 30.0
"""Seconds that a client may go without sending the body, or taking the response, that a thread waits with."""

_STREAK = 1 << 20  # bytes that go at a stretch before a thread gives way: a green one would keep the hub to itself

_OF_THE_FILE = {errno.EIO, errno.EINVAL, errno.ENOSYS, errno.ESTALE}  # what sendfile(2) says when it cannot be read

# Who owns a connection: the loop, which reads its next head, until it is BUSY; then the one thread that serves it.
# In PREFACE it owes the PROXY header that comes before everything else.
PREFACE, IDLE, HEAD, BUSY, LINGER, CLOSED = range(6)


class Socket(Protocol):
    """What a connection needs of a socket that never blocks, plain or with TLS."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def recv(self, size: int, /) -> bytes:
        """Return `size` bytes at most; with TLS more, if more have come."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Return how much of `data` is sent."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option of the socket."""

    def shutdown(self, how: int, /) -> None:
        """End one half of the connection, or both."""

    def close(self) -> None:
        """Close it."""


class Waiter(Protocol):
    """The part of an engine that a request's thread needs."""

    def wait(self, conn: Connection, *, write: bool, timeout: float | None) -> bool:
        """Block the calling thread until the socket is ready, at most `timeout` seconds unless None; return whether."""

    def epoll(self) -> epoll:
        """Return an epoll of the kernel's own, which eventlet hides."""


class Connection:
    """A socket in non-blocking mode, and the bytes received on it that no request has used.

    `buffer` is None when there are none, which costs an idle connection nothing. `peer` is the address and the port of
    who speaks on it, as far as a PROXY header tells; `believed`: what that one says of its own clients is; None: nobody
    has asked yet. `private`: it comes from the worker's private listener. `deadline` is the monotonic instant at which
    the loop ends what the connection's state is waiting for. `handle` belongs to the engine. `tls` is its socket once
    that speaks TLS, and else None; `rest` is what its client did not take at once of a response that has ended;
    `upgraded` is by what the application uses it for another protocol.
    """

    __slots__ = (
        "believed",
        "buffer",
        "cutoff",
        "deadline",
        "engine",
        "fd",
        "gone",
        "handle",
        "listener",
        "moved",
        "peer",
        "prepared",
        "private",
        "request",
        "rest",
        "sock",
        "state",
        "tls",
        "upgraded",
    )

    def __init__(self, sock: Socket, peer: tuple[str, str], listener: Listener, engine: Waiter) -> None:
        self.sock = sock
        self.tls: TlsSocket | None = None
        self.fd = sock.fileno()
        self.peer = peer
        self.believed: bool | None = None
        self.listener = listener
        self.prepared = listener.prepared
        self.private = listener.private
        self.engine = engine
        self.buffer: bytearray | None = None
        self.state = IDLE
        self.deadline = 0.0
        self.cutoff = 0.0
        self.moved = 0  # bytes since its thread gave way
        self.gone = False  # the client is, or it might as well be
        self.upgraded: Upgrade | None = None
        self.request: Request | None = None
        self.rest = b""
        self.handle: Any = None

    def secure(self, tls: Tls, received: bytes = b"") -> None:
        """Speak TLS from now on; `received` are bytes that were read from the socket already."""
        self.prepared = self.prepared.copy()  # for what the handshake adds
        self.sock = self.tls = tls.wrap(self.sock, self.prepared, received)

    def receive(self, size: int) -> bytes:
        """Return 1 to `size` bytes of the request's body; raise `ClientGone` at the end of the stream."""
        if self.buffer:
            data = bytes(self.buffer[:size])
            del self.buffer[:size]
            return data
        data = self._receive(size)
        if len(data) > size:
            self.buffer = bytearray(data[size:])
            data = data[:size]
        return data

    def receive_line(self, limit: int) -> bytes:
        """Return the next line without its CRLF; raise `BodyRefused` for a longer one, or one with a bare CR or LF."""
        buffer = self.buffer = self.buffer if self.buffer is not None else bytearray()
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > limit:
                break
            buffer += self._receive(RECEIVE_SIZE)
        if not 0 < end <= limit or buffer[end - 1] != 0x0D or buffer.find(b"\r", 0, end) != end - 1:
            raise BodyRefused(400, "malformed line in a chunked body")
        line = bytes(buffer[: end - 1])
        del buffer[: end + 1]
        return line

    def send(self, data: bytes) -> None:
        """Hand all of `data` to the kernel; raise `ClientGone` when the client does not take it, or is gone."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(str(error), len(data)) from error
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:])
        self.moved += len(data)
        if self.moved > _STREAK:
            self.pace(0)

    def send_file(self, file: int, start: int, size: int) -> int:
        """Hand `size` bytes of a file, by its descriptor, to the kernel; return how many there were. Not with TLS."""
        at, end = start, start + size
        while at < end:
            try:
                sent = os.sendfile(self.fd, file, at, min(end - at, _STREAK))
            except BlockingIOError:
                self.await_room(end - at)
                continue
            except OSError as error:
                if error.errno in _OF_THE_FILE:
                    raise
                raise self._lost(str(error), end - at) from error
            if not sent:
                break
            at += sent
            self.pace(sent)
        return at - start

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            self.await_room(len(rest))
            try:
                sent = self.sock.send(rest)
                rest = rest[sent:]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(str(error), len(rest)) from error

    def await_room(self, unsent: int) -> None:
        """Wait until the kernel takes more of the response, of which so many bytes are left.

        It holds megabytes of it and says so only when a third has gone, which a slow client may need long for.
        """
        left = self._untaken()
        while not self.engine.wait(self, write=True, timeout=STALL_TIMEOUT):
            before, left = left, self._untaken()
            if left >= before:
                raise self._lost("it does not take the response", unsent)

    def _untaken(self) -> int:
        """Return the bytes that the kernel holds and the client's has not acknowledged (tcp(7), SIOCOUTQ)."""
        return int.from_bytes(ioctl(self.fd, TIOCOUTQ, bytes(4)), sys.byteorder)

    def end(self) -> None:
        """Have TLS say that our half ends, when the client has made room for it; raise `ClientGone` as `send` does."""
        while self.tls is not None:
            try:
                self.tls.end()
                break
            except BlockingIOError:
                self.await_room(0)
            except OSError as error:
                raise self._lost(str(error)) from error

    def _receive(self, size: int) -> bytes:
        """Return what has come on the socket, or comes; with TLS that may be more than `size` bytes."""
        while True:
            try:
                data = self.sock.recv(size)
            except BlockingIOError:
                if not self.engine.wait(self, write=False, timeout=STALL_TIMEOUT):
                    raise BodyRefused(408, "the body did not come in time") from None
                continue
            except OSError as error:
                raise self._lost(str(error)) from error
            if not data:
                raise self._lost("closed before the end of the body")
            self.pace(len(data))
            return data

    def pace(self, size: int, *, write: bool = False) -> None:
        """Count bytes that have moved, and give way now and then, by a wait for what the thread may wait for."""
        self.moved += size
        if self.moved > _STREAK:
            self.moved = 0
            self.engine.wait(self, write=write, timeout=0)

    def _lost(self, cause: str, unsent: int = 0) -> ClientGone:
        self.gone = True
        return ClientGone(f"the client is gone: {cause}", unsent)
