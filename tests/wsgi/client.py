"""An HTTP client that sends exactly the bytes it is told, and is strict about those that it gets."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NamedTuple, Self

from tests.wsgi.tls_client import TlsEnd, Unannounced

TIMEOUT = 20.0


class Answer(NamedTuple):
    """A response, its header names in lower case; `interim`: how many 1xx came before it."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: int = 0

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One connection, over TLS where there is a context, from an address of this machine if one is given.

    `receives`: how many bytes the kernel takes in ahead of us.
    """

    def __init__(self, address: str, source: str = "", *, tls: ssl.SSLContext | None = None, receives: int = 0) -> None:
        """Connect, and where there is a context for it shake hands, unless the address is that of a Unix socket."""
        self.sock: socket.socket | TlsEnd = connect(address, source, receives)
        if tls is not None and not address.startswith("unix:"):
            self.sock = TlsEnd(self.sock, tls)
            self.sock.shake_hands()
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str, *headers: str, method: str = "GET", version: str = "1.1") -> Answer:
        self.send(request(path, *headers, method=method, version=version))
        return self.answer(bodyless=method == "HEAD")

    def answer(self, *, bodyless: bool = False) -> Answer:
        """Read one response; fail when it is cut short."""
        status, headers = self.head()
        interim = 0
        while status < 200:
            interim += 1
            status, headers = self.head()
        if bodyless or status in (204, 304):
            return Answer(status, headers, b"", interim)
        return Answer(status, headers, self._body(headers), interim)

    def head(self) -> tuple[int, dict[str, str]]:
        head, _, self._held = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        assert line.startswith("HTTP/1.1 "), line
        headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(": ")
            assert name.lower() not in headers, field
            headers[name.lower()] = value
        return int(line[9:12]), headers

    def chunk(self) -> bytes:
        size, _, self._held = self._until(b"\r\n").partition(b"\r\n")
        data = self.exactly(int(size, 16) + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def chunks(self) -> bytes:
        """Read the rest of a chunked body."""
        pieces = []
        while piece := self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    def exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def rest(self) -> bytes:
        """Read up to the end of the connection, which must be an orderly one."""
        pieces = [self._held]
        self._held = b""
        while piece := self.sock.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    def remains(self) -> bytes:
        """Read up to the end of a connection that was cut in the middle, which over TLS must not look like another end."""
        if not isinstance(self.sock, TlsEnd):
            return self.rest()
        with contextlib.suppress(Unannounced):
            while True:
                piece = self.sock.recv(65536)
                assert piece, "announced as if it had been meant"
                self._held += piece
        return self._held

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return self.exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return self.chunks()
        assert headers["connection"] == "close"
        return self.rest()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        return self._held

    def _more(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError(f"the connection ended after {self._held[-200:]!r}")
        self._held += piece


def connect(address: str, source: str = "", receives: int = 0) -> socket.socket:
    """Return a socket that is connected to an address as `bind` has them."""
    host, _, port = address.rpartition(":")
    unix = address.startswith("unix:")
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    if receives:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)  # before connecting: the window comes of it
    try:
        if source:
            sock.bind((source, 0))
        sock.connect(address[len("unix:") :] if unix else (host.strip("[]"), int(port)))
    except OSError:
        sock.close()
        raise
    if not unix:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def request(path: str, *headers: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    fields = ["Host: test", *headers, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *fields, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
