"""The client's end of TLS over a blocking socket, in a socket's manner, each of its bytes under the test's control."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any


class Unannounced(ConnectionError):
    """The connection has ended without a word: something is missing."""


class TlsEnd:
    """A connection that speaks TLS once it is made; `raw` is its socket."""

    def __init__(self, raw: Any, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost", session=session)

    def shake_hands(self, first: bytes = b"") -> None:
        """Shake hands, and send the `first` data in one packet with our last part of that."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
        self.raw.sendall(self.encrypt(first) if first else self.outgoing.read())

    def encrypt(self, data: bytes) -> bytes:
        """Return data as it goes over the wire."""
        self.tls.write(data)
        return self.outgoing.read()

    def flush(self) -> None:
        if self.outgoing.pending:
            self.raw.sendall(self.outgoing.read())

    def feed(self) -> None:
        received = self.raw.recv(65536)
        if not received:
            raise Unannounced("an end without a word")
        self.incoming.write(received)

    def sendall(self, data: bytes) -> None:
        self.raw.sendall(self.encrypt(data))

    def recv(self, size: int) -> bytes:
        """Return what comes; b"" when the server has said that it is done."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()

    def shutdown(self, how: int) -> None:
        """Say that nothing more will come, and leave the socket open."""
        assert how == socket.SHUT_WR
        self.raw.sendall(self.farewell())

    def farewell(self) -> bytes:
        """Return the word that nothing more will come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    def settimeout(self, seconds: float) -> None:
        self.raw.settimeout(seconds)

    def getsockname(self):
        return self.raw.getsockname()

    def close(self) -> None:
        """End without a word."""
        self.raw.close()
