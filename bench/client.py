"""A small HTTP client that measures, and the load that is made of several of them."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import NamedTuple

TIMEOUT = 30.0  # seconds after which an unanswered request counts as failed


class Refused(OSError):
    """The server answered, but not with 200."""


class Answer(NamedTuple):
    """Who answered, with which version of the code, and whether it closes the connection."""

    pid: int
    version: str
    close: bool


class Sample(NamedTuple):
    """One request: when it began, how long it took, the version that answered or the name of the error."""

    began: float
    seconds: float
    version: str
    error: str


def connect(port: int) -> socket.socket:
    """Return a connection to a port of this machine."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, keepalive: bool = False) -> Answer:
    """Send one request and read its answer; OSError for everything but a whole 200."""
    body, close = fetch(connection, "/", keepalive)
    pid, version, *_ = body.decode().split()
    return Answer(int(pid), version, close)


def fetch(connection: socket.socket, path: str, keepalive: bool = False) -> tuple[bytes, bool]:
    """As `ask`, for any path and answer; return its body, and whether the server closes the connection."""
    wish = "keep-alive" if keepalive else "close"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {wish}\r\n\r\n".encode())
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _receive(connection)
    status, _, rest = data[:end].decode("latin-1").partition("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest.split("\r\n"))}
    while len(data) < end + 4 + int(headers.get("content-length", "0")):
        data += _receive(connection)
    if status.split()[1] != "200":
        raise Refused(status)
    return data[end + 4 :], headers.get("connection", "").lower() == "close"


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        message = "closed before the answer was whole"
        raise ConnectionResetError(message)
    return data


def ask_once(port: int) -> Answer:
    """Ask on a connection of its own."""
    with connect(port) as connection:
        return ask(connection)


class Visitor(threading.Thread):
    """Asks every `period` seconds until told to stop; `samples` grows at its end only."""

    def __init__(self, port: int, *, keepalive: bool, period: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.stop = threading.Event()
        self._port, self._keepalive, self._period = port, keepalive, period
        self._connection: socket.socket | None = None

    def run(self) -> None:
        """Ask, note, rest."""
        while not self.stop.is_set():
            began = time.monotonic()
            version = error = ""
            try:
                version = self._ask()
            except OSError as problem:
                error = type(problem).__name__
                self._drop()
            seconds = time.monotonic() - began
            self.samples.append(Sample(began, seconds, version, error))
            self.stop.wait(max(0.0, self._period - seconds))
        self._drop()

    def _ask(self) -> str:
        if self._connection is not None and select.select([self._connection], [], [], 0)[0]:
            self._drop()  # closed while it was idle: every client looks before it asks again
        if self._connection is None:
            self._connection = connect(self._port)
        answer = ask(self._connection, self._keepalive)
        if answer.close or not self._keepalive:
            self._drop()
        return answer.version

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None
