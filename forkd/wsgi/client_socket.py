"""`environ["forkd.socket"]`: a connection in the manner of a socket that blocks, for libraries that want one."""

from __future__ import annotations

import os
from _socket import socket  # as in listener.py
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from forkd.wsgi.upgrade import Upgrade


class ClientSocket:
    """A client's connection as a `socket.socket`, as far as libraries make use of one; any method takes it.

    Its waits are the engine's: under eventlet other green threads go on.
    """

    def __init__(self, upgrade: Upgrade) -> None:
        self._upgrade = upgrade
        self._timeout: float | None = None

    def recv(self, bufsize: int) -> bytes:
        """Return at least one and at most `bufsize` bytes, b"" at the end; raise `TimeoutError` after the timeout."""
        return self._upgrade.take().receive(bufsize, self._timeout)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0) -> int:
        """As `recv`, into the beginning of `buffer`; return how many bytes came."""
        view = memoryview(buffer).cast("B")
        data = self._upgrade.take().receive(nbytes or len(view), self._timeout)
        view[: len(data)] = data
        return len(data)

    def send(self, data: ReadableBuffer) -> int:
        """Send `data`, or with a timeout what can be sent within it; return how many bytes that was."""
        view = memoryview(data).cast("B")
        return self._upgrade.take().send(view, self._timeout, whole=self._timeout is None)

    def sendall(self, data: ReadableBuffer) -> None:
        """Send all of `data`."""
        self._upgrade.take().send(memoryview(data).cast("B"), self._timeout, whole=True)

    def settimeout(self, value: float | None) -> None:
        """Let what blocks raise `TimeoutError` after so many seconds; None: never, 0: it raises `BlockingIOError`."""
        self._upgrade.take()
        self._timeout = value

    def setblocking(self, flag: bool) -> None:
        """Block without a timeout, or not at all."""
        self.settimeout(None if flag else 0.0)

    def gettimeout(self) -> float | None:
        """Return the timeout in seconds."""
        self._upgrade.take()
        return self._timeout

    def fileno(self) -> int:
        """Return a descriptor for selectors, to wait for what comes; -1 once it is closed."""
        upgrade = self._upgrade.take()
        return -1 if upgrade.over else upgrade.selectable()

    def getpeername(self) -> Any:
        """Return the client's address."""
        with _duplicate(self._upgrade.take().fd) as sock:
            return sock.getpeername()

    def getsockname(self) -> Any:
        """Return the address that the client has connected to."""
        with _duplicate(self._upgrade.take().fd) as sock:
            return sock.getsockname()

    def shutdown(self, how: int) -> None:
        """End one direction, or both."""
        self._upgrade.take().shutdown(how)

    def close(self) -> None:
        """End the connection; a second time it does nothing."""
        self._upgrade.take().close()


@contextmanager
def _duplicate(fd: int) -> Iterator[socket]:
    """Yield a plain socket for a moment, whatever is spoken on it."""
    sock = socket(fileno=os.dup(fd))
    try:
        yield sock
    finally:
        sock.close()
