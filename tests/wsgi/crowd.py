"""What a crowd must not do to others: keep them waiting, or make the server grow."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from tests.waiting import until
from tests.wsgi.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
BOUND = 10.0  # seconds within which a well-behaved client is served, on a machine that is busy with others


class Regular(threading.Thread):
    """One who behaves: asks again and again, on a connection that it keeps and on new ones."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.answers = 0
        self.slowest = 0.0
        self.failures: list[BaseException] = []
        self.over = threading.Event()
        self._address = address

    def run(self) -> None:
        try:
            with Client(self._address) as kept:
                while not self.over.wait(0.01):
                    began = time.monotonic()
                    assert kept.get("/hello").body == b"Hello, world!"
                    with Client(self._address) as fresh:
                        assert fresh.get("/hello", "Connection: close").body == b"Hello, world!"
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.answers += 1
        except BaseException as error:  # noqa: BLE001 -- told by the test's own thread
            self.failures.append(error)


@contextlib.contextmanager
def regular(served) -> Iterator[Regular]:
    """Have one served while the block runs, and well."""
    client = Regular(served.address)
    client.start()
    try:
        until(lambda: client.answers or client.failures)
        yield client
        seen = client.answers
        until(lambda: client.answers > seen or client.failures, BOUND)
    finally:
        client.over.set()
        client.join(BOUND * 2)
    assert client.failures == []
    assert client.slowest < BOUND


def grows_no_more(served, once) -> None:
    """Do something five times: what the first ones took is enough for the others."""
    once()
    once()
    once()
    before = served.memory()
    once()
    once()
    assert served.memory() - before < 4 * MIB
