"""A connection that the application takes to speak another protocol on it; the server itself speaks none of those."""

from __future__ import annotations

import errno
import os
import threading
from _socket import (  # as in listener.py
    IPPROTO_TCP,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
)
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from forkd.wsgi.causes import causes
from forkd.wsgi.connection import STALL_TIMEOUT
from forkd.wsgi.connections import LINGER_TIMEOUT
from forkd.wsgi.readiness import Readiness
from forkd.wsgi.refusal import ClientGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.wsgi.connection import Connection, Socket
    from forkd.wsgi.connections import Connections
    from forkd.wsgi.response import Response

# A client may be silent for hours, so the kernel asks its machine whether it is still there: after so many seconds, at
# such intervals, so often. One that vanished would hold a thread for good.
_PROBES = ((TCP_KEEPIDLE, 60), (TCP_KEEPINTVL, 15), (TCP_KEEPCNT, 4))


class Upgrade:
    """The connection of a request that asks for another protocol (RFC 9110, section 7.8), for the application to take.

    Taken, it is the application's until that returns: the server sends nothing on it, and reads no request from it.
    One thread at a time reads, and one writes; others wait for their turn. `over`: it is not the application's any
    more, and never will be.
    """

    def __init__(
        self,
        conn: Connection,
        response: Response,
        connections: Connections,
        on_take: Callable[[], object] | None,
    ) -> None:
        self.over = False
        self._on_take = on_take
        self._conn = conn
        self._response = response
        self._connections = connections
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._call = threading.Lock()  # TLS is not for two threads at once; held for moments
        self._owing = b""  # what TLS has encrypted already, and still wants to be given
        self._failures: deque[OSError] = deque(maxlen=4)  # the last that the application got
        self._deaf = False  # whoever reads is told that this is the end
        self._reader = 0  # the thread that has read last
        self._idle = threading.Event()  # it has nothing left that it might answer
        self._idle.set()
        self._readiness: Readiness | None = None

    def take(self) -> Self:
        """Make the connection the application's, if it is not yet; raise `RuntimeError` when a response has begun."""
        if self._conn.upgraded is None and not self.over:
            if self._response.begun:
                raise RuntimeError("the connection cannot be taken for another protocol: the response has begun")
            self._response.code = 101
            _notice_its_death(self._conn.sock)
            self._connections.give(self._conn, self)
            if self._on_take is not None:
                self._on_take()
        return self

    @property
    def fd(self) -> int:
        """The descriptor; raise `OSError` when it is `over`, and may be another's by now."""
        if self.over:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._conn.fd

    def selectable(self) -> int:
        """Return a descriptor for selectors; raise as `fd` does."""
        fd = self.fd
        with self._call:
            if self._readiness is None and (self._conn.tls is not None or self._conn.buffer):
                self._readiness = Readiness(fd, self._conn.engine.epoll())
                self._readiness.hold(_holds(self._conn))
        return fd if self._readiness is None else self._readiness.fileno()

    def receive(self, size: int, timeout: float | None) -> bytes:
        """Return 1 to `size` bytes, b"" at the end; wait for them `timeout` seconds at most, None: for ever."""
        with self._reading:
            self._idle.set()
            data = self._received(size, timeout)
            if data:
                self._reader = threading.get_ident()
                self._idle.clear()
            if self._readiness is not None:
                with self._call:
                    self._readiness.hold(_holds(self._conn))
            return data

    def send(self, data: memoryview, timeout: float | None, *, whole: bool) -> int:
        """Hand `data` to the kernel, the `whole` of it or what it takes at a time; return how many bytes that was.

        A client that takes none of it for `STALL_TIMEOUT` seconds is given up, whatever `timeout` says.
        """
        sent = 0
        with self._writing:
            if self.over:
                self._failures.append(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
                raise self._failures[-1]
            while self._owing:
                self._owing = self._owing[self._sent(self._owing, timeout) :]
            try:
                while sent < len(data):
                    sent += self._sent(data[sent:], timeout)
                    if not whole:
                        break
            except (BlockingIOError, TimeoutError):
                tls = self._conn.tls
                self._owing = data[sent : sent + tls.owed].tobytes() if tls is not None else b""
                if whole or not self._owing:
                    raise
                sent += len(self._owing)
            self._conn.pace(sent, write=True)
        return sent

    def shutdown(self, how: int) -> None:
        """End one direction, or both; raise as `fd` does."""
        if self.fd >= 0:
            with self._call:
                self._conn.sock.shutdown(how)

    def end_input(self) -> None:
        """Tell who reads that this is the end, and nobody else; called in the loop, so it takes no lock."""
        self._deaf = True
        _shut(self._conn, SHUT_RD)  # wakes those who wait, also by a selector of their own

    def close(self) -> None:
        """Let the client see the end; the descriptor stays until `finish`."""
        if not self.over:
            self.over = self._deaf = True
            self._end()
            self._idle.set()

    def finish(self) -> bool:
        """Take the connection back from the application, which has returned; return whether it had taken it.

        Other threads of the application may still be at it. One that has received something may answer that, as
        libraries do to the client's last word; one that sends may finish; one that waits for more is woken by the
        client's end of the connection. None of them holds it up for more than a second, and none comes back.
        """
        taken = self._conn.upgraded is self
        if taken and self._reader != threading.get_ident():
            self._idle.wait(LINGER_TIMEOUT)
        self.over = self._deaf = True
        if taken:
            _settle(self._conn, self._writing)
            self._end()
            _settle(self._conn, self._reading)
            if self._readiness is not None:
                self._readiness.close()
            self._failures.clear()  # their tracebacks hold on to all this
            self._connections.upgrades.discard(self)
            self._conn.upgraded = None
        return taken

    def caused(self, error: BaseException) -> bool:
        """Return whether an error is, or came while handling, one that the application got here: no fault of its own.

        By a bare `ConnectionError` those say that all is done who are written for Werkzeug's server, such as engineio.
        """
        if type(error) is ConnectionError:
            return True
        failures = {id(failure) for failure in list(self._failures)}  # an application's errors may compare as they like
        return any(id(each) in failures for each in causes(error))

    def _received(self, size: int, timeout: float | None) -> bytes:
        conn = self._conn
        while not self._deaf:
            if conn.buffer:
                data = bytes(conn.buffer[:size])
                del conn.buffer[:size]
                return data
            try:
                with self._call:
                    data = conn.sock.recv(size)
            except BlockingIOError:
                _wait(conn, write=False, timeout=timeout)
                continue
            except OSError as error:
                conn.gone = True
                self._failures.append(error)
                raise
            conn.pace(len(data))
            if len(data) > size:  # of TLS, which keeps nothing to itself
                conn.buffer = bytearray(data[size:])
                data = data[:size]
            return data
        return b""

    def _sent(self, data: bytes | memoryview, timeout: float | None) -> int:
        conn = self._conn
        while True:
            try:
                with self._call:
                    return conn.sock.send(data)
            except BlockingIOError:
                _wait(conn, write=True, timeout=timeout)
            except OSError as error:
                conn.gone = True
                self._failures.append(error)
                raise

    def _end(self) -> None:
        """End our half."""
        with self._call, suppress(ClientGone):
            self._conn.end()
        _shut(self._conn, SHUT_WR)


def _wait(conn: Connection, *, write: bool, timeout: float | None) -> None:
    if timeout == 0:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if write and (timeout is None or timeout > STALL_TIMEOUT):
        conn.await_room(0)
    elif not conn.engine.wait(conn, write=write, timeout=timeout):
        raise TimeoutError("timed out")


def _holds(conn: Connection) -> bool:
    """Return whether there is something to receive of which the kernel knows nothing."""
    return bool(conn.buffer) or (conn.tls is not None and conn.tls.ended)


def _settle(conn: Connection, lock: threading.Lock) -> None:
    """Wait until no thread holds a lock; one that holds it too long finds the connection cut."""
    if not lock.acquire(timeout=LINGER_TIMEOUT):
        _shut(conn, SHUT_RDWR)
        lock.acquire()
    lock.release()


def _shut(conn: Connection, how: int) -> None:
    with suppress(OSError):  # the client was faster
        conn.sock.shutdown(how)


def _notice_its_death(sock: Socket) -> None:
    with suppress(OSError):  # a Unix socket tells by itself
        sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        for option, value in _PROBES:
            sock.setsockopt(IPPROTO_TCP, option, value)
