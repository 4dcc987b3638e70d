"""One healthcheck, asked of real sockets: what is healthy, what is wrong, and what cannot be told."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

import forkd
from forkd import process
from forkd.ops.probe import ANSWER_LIMIT, CannotTell, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 30.0  # seconds


class Worker:
    """A socket whose every client gets the same bytes; what it sent is in `asked`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked = b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    def answer(self, data: bytes) -> str:
        """Return what is said of an answer."""
        thread = threading.Thread(target=self._serve, args=(data,))
        thread.start()
        try:
            return asyncio.run(ask(self.path, "/healthz?deep=1", LONG))
        finally:
            thread.join()

    def close(self) -> None:
        self.listener.close()

    def _serve(self, data: bytes) -> None:
        client, _ = self.listener.accept()
        with client:
            while not self.asked.endswith(b"\r\n\r\n"):
                self.asked += client.recv(65536)
            client.sendall(data)


@pytest.fixture
def worker(short_tmp: Path) -> Iterator[Worker]:
    worker = Worker(short_tmp / "sock")
    yield worker
    worker.close()


def test_it_asks_as_http_wants_it(worker):
    assert worker.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == ""
    line, *fields = worker.asked.decode().split("\r\n")
    assert line == "GET /healthz?deep=1 HTTP/1.1"
    assert fields == [
        "Host: localhost",
        f"User-Agent: forkd-healthcheck/{forkd.__version__}",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("HTTP/1.1 200 OK\r\n\r\nto the end", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 302 Found\r\nLocation: /nowhere\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\n\r\n" + "x" * 2 * ANSWER_LIMIT, ""),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "400 Bad Request"),
        ("HTTP/1.1 500 Internal Server Error\r\n\r\nwhy", "500 Internal Server Error"),
        ("HTTP/1.1 503 \r\n\r\n", "503"),
        ("HTTP/1.1 503 \x1b[2J\r\n\r\n", "503 ?[2J"),
        ("HTTP/1.1 500 " + "x" * 1000 + "\r\n\r\n", "500 " + "x" * 96),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "the answer ends too soon"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "the answer ends too soon"),
        ("", "closed without an answer"),
        ("SSH-2.0-OpenSSH\r\n", "not an answer of HTTP: BadStatusLine('SSH-2.0-OpenSSH\\r\\n')"),
        ("HTTP/1.1 2oo OK\r\n\r\n", "not an answer of HTTP: BadStatusLine('HTTP/1.1 2oo OK\\r\\n')"),
    ],
)  # fmt: skip
def test_what_an_answer_means(worker, answer, fault):
    assert worker.answer(answer.encode()) == fault


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
def test_the_whole_answer_must_come_in_time(worker, begun):
    clients: list[socket.socket] = []

    def serve() -> None:
        clients.append(worker.listener.accept()[0])
        clients[0].send(begun)

    thread = threading.Thread(target=serve)
    thread.start()
    assert asyncio.run(ask(worker.path, "/", 0.25)) == "no answer within 0.25 s"
    thread.join()
    clients[0].close()


def test_nobody_there(worker, short_tmp):
    worker.close()
    assert asyncio.run(ask(worker.path, "/", LONG)) == "connection refused"
    assert asyncio.run(ask(str(short_tmp / "none"), "/", LONG)) == "no such file or directory"


def in_a_fork(what: Callable[[], bool]) -> int:
    """Return the pid of a fork that ends with 0 when it is so."""
    return process.fork(lambda: 0 if what() else 1, lambda: None)


def cannot_tell(path: str, limit: float) -> bool:
    try:
        asyncio.run(ask(path, "/", limit))
    except CannotTell:
        return True
    return False


def test_who_was_stopped_meanwhile_cannot_tell(worker):
    pid = in_a_fork(lambda: cannot_tell(worker.path, 1.0))
    client, _ = worker.listener.accept()
    os.kill(pid, signal.SIGSTOP)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    over = threading.Event()
    threading.Timer(1.5, over.set).start()
    assert over.wait(LONG)
    os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.close()


def test_who_has_no_descriptor_left_cannot_tell(worker):
    def starved() -> bool:
        async def ask_with_none_left() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            await ask(worker.path, "/", LONG)

        try:
            asyncio.run(ask_with_none_left())
        except CannotTell:
            return True
        return False

    pid = in_a_fork(starved)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
