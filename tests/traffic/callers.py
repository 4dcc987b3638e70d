"""Clients of every kind that there is, who ask without end and are content with whole answers alone."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.traffic.app import content
from tests.waiting import until
from tests.wsgi.client import Answer, Client, request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Pause = Callable[[float], object]

BOUND = 15.0  # seconds within which any exchange is over, on a machine that is busy with others


class Door(NamedTuple):
    """Where the service is to be found."""

    address: str
    context: ssl.SSLContext | None = None


class Line:
    """One client's connection, kept until a response says that it is the last one: no other end is a good one."""

    def __init__(self, door: Door, idle: float, receives: int) -> None:
        """`idle`: seconds that it is left idle at most, or that a body takes to be sent or read."""
        self.idle = idle
        self.workers: set[str] = set()
        self._door = door
        self._receives = receives
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self._door.address, tls=self._door.context, receives=self._receives)
        return self._client

    def settle(self, headers: dict[str, str]) -> None:
        """Note who has answered, and let go of the connection where it was the last answer."""
        self.workers.add(headers["x-worker"])
        if headers.get("connection") == "close":
            assert self.client.rest() == b""
            self.hang_up()

    def rest(self) -> bytes:
        """Return what has come already and was not looked at."""
        with contextlib.suppress(OSError):
            if self._client is not None:
                self._client.sock.settimeout(0)
                return self._client.sock.recv(1000)
        return b""

    def hang_up(self) -> None:
        if self._client is not None:
            self._client.sock.close()
            self._client = None


def keep(line: Line, dice: random.Random, pause: Pause) -> None:
    _fetch(line, dice)
    pause(0.005)


def idle(line: Line, dice: random.Random, pause: Pause) -> None:
    """The connection is idle most of the time: a server that closes idle ones as it drains is found out."""
    _fetch(line, dice)
    pause(dice.uniform(0.0, line.idle))


def come_and_go(line: Line, dice: random.Random, pause: Pause) -> None:
    _fetch(line, dice, "Connection: close")
    pause(0.005)


def pipeline(line: Line, dice: random.Random, pause: Pause) -> None:
    """Send several requests at once, and those again that come after the last answer of a connection."""
    wanted = [(dice.randrange(2**32), dice.randrange(20_000)) for _ in range(8)]
    while wanted:
        line.client.send(b"".join(request(f"/whole/{seed}/{size}") for seed, size in wanted))
        closes = False
        while wanted and not closes:
            answer = line.client.answer()
            _check(answer, content(*wanted.pop(0)))
            closes = answer.closes
        line.settle(answer.headers)
    pause(0.01)


def upload(line: Line, dice: random.Random, pause: Pause) -> None:
    _upload(line, dice, pause, chunked=False)


def upload_chunks(line: Line, dice: random.Random, pause: Pause) -> None:
    _upload(line, dice, pause, chunked=True)


def upload_when_told(line: Line, dice: random.Random, pause: Pause) -> None:
    _upload(line, dice, pause, "Expect: 100-continue", chunked=True)


def download(line: Line, dice: random.Random, pause: Pause) -> None:
    """Take what a slow generator gives."""
    seed, size = dice.randrange(2**32), dice.randrange(1, 500_000)
    answer = line.client.get(f"/flow/{seed}/{size}/{dice.randint(1, 20)}")
    _check(answer, content(seed, size))
    line.settle(answer.headers)


def read_slowly(line: Line, dice: random.Random, pause: Pause) -> None:
    """Take more than the kernel's buffers hold, in pieces."""
    seed, size = dice.randrange(2**32), 4_000_000
    line.client.send(request(f"/whole/{seed}/{size}"))
    status, headers = line.client.head()
    assert status == 200
    found, left = hashlib.sha256(), int(headers["content-length"])
    while left:
        piece = line.client.exactly(min(left, 300_000))
        found.update(piece)
        left -= len(piece)
        pause(line.idle / 20)
    assert found.digest() == hashlib.sha256(content(seed, size)).digest()
    line.settle(headers)


def be_old(line: Line, dice: random.Random, pause: Pause) -> None:
    """Speak HTTP/1.0, in which the end of the connection may be that of the response."""
    seed, size = dice.randrange(2**32), dice.randrange(1, 100_000)
    kept = dice.random() < 0.5
    path = f"/whole/{seed}/{size}" if kept else f"/flow/{seed}/{size}/3"
    answer = line.client.get(path, *(["Connection: keep-alive"] if kept else []), version="1.0")
    _check(answer, content(seed, size))
    assert answer.closes or answer.headers["connection"] == "keep-alive"
    line.settle(answer.headers)
    pause(0.02)


KINDS = (keep, idle, come_and_go, pipeline, upload, upload_chunks, upload_when_told, download, read_slowly, be_old)


class Caller(threading.Thread):
    """One client of a kind; `failures` has every exchange that did not go as it must."""

    def __init__(self, exchange: Callable[[Line, random.Random, Pause], None], door: Door, idle: float) -> None:
        super().__init__(name=f"{exchange.__name__} at {door.address}", daemon=True)
        self.answers = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self.over = threading.Event()
        self.line = Line(door, idle, receives=65536 if exchange is read_slowly else 0)
        self._exchange = exchange
        self._dice = random.Random(self.name)

    def __str__(self) -> str:
        return f"{self.name}: {self.answers} exchanges, the slowest took {self.slowest:.2f} s"

    def run(self) -> None:
        while not self.over.is_set() and len(self.failures) < 3:
            began = time.monotonic()
            try:
                self._exchange(self.line, self._dice, self.over.wait)
                self.answers += 1
            except Exception:  # noqa: BLE001 -- every failure counts, whatever it is
                self.failures.append(f"{self.name}: {traceback.format_exc()}received: {self.line.rest()!r}")
                self.line.hang_up()
            self.slowest = max(self.slowest, time.monotonic() - began)
        self.line.hang_up()


class Traffic:
    """A client of each kind at each door, at work as long as the `with` lasts, at whose end nothing may have failed."""

    def __init__(self, *doors: Door, idle: float = 0.2) -> None:
        self.callers = [Caller(kind, door, idle) for door in doors for kind in KINDS]

    def __enter__(self) -> Self:
        for caller in self.callers:
            caller.start()
        self.until_more()
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        for caller in self.callers:
            caller.over.set()
        for caller in self.callers:
            caller.join(BOUND * 2)
        if failed is None:
            self.check()

    @property
    def workers(self) -> set[str]:
        """The pids of all who have answered."""
        return set().union(*(set(caller.line.workers) for caller in self.callers))

    def until_more(self) -> None:
        """Return when each client has had another answer."""
        seen = [caller.answers for caller in self.callers]

        def all_have() -> bool:
            self.check()
            return all(caller.answers > before for caller, before in zip(self.callers, seen, strict=True))

        until(all_have, BOUND * 2, "another answer for each client")

    def check(self) -> None:
        failures = [failure for caller in self.callers for failure in caller.failures]
        assert not failures, "\n".join(failures)
        assert not [str(caller) for caller in self.callers if caller.slowest > BOUND]


def _fetch(line: Line, dice: random.Random, *headers: str) -> None:
    seed, size = dice.randrange(2**32), dice.randrange(20_000)
    answer = line.client.get(f"/whole/{seed}/{size}", *headers)
    _check(answer, content(seed, size))
    line.settle(answer.headers)


def _upload(line: Line, dice: random.Random, pause: Pause, *headers: str, chunked: bool) -> None:
    """Send a body slowly."""
    body = dice.randbytes(dice.randint(1, 200_000))
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    line.client.send(request("/digest", framing, *headers, method="POST"))
    if headers:
        assert line.client.head() == (100, {})
    pieces = dice.randint(1, 10)
    step = -(-len(body) // pieces)
    for at in range(0, len(body), step):
        pause(dice.uniform(0.0, 2 * line.idle / pieces))  # before it: behind the last one the connection would be idle
        piece = body[at : at + step]
        line.client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        line.client.send(b"0\r\n\r\n")
    answer = line.client.answer()
    _check(answer, hashlib.sha256(body).hexdigest().encode())
    line.settle(answer.headers)


def _check(answer: Answer, expected: bytes) -> None:
    assert answer.status == 200
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()
