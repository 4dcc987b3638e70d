"""Remote calls that stand in a ledger, so that it is seen whether one of them was lost, or made twice."""

from __future__ import annotations

import asyncio
import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from forkd import rpc
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.installed import Installed

SERVER = """
from forkd import rpc

class Ledger(rpc.Server):
    def book(self, key):
        with open("booked", "a") as file:
            file.write(f"{key}\\n")
        return key
"""
_PATIENCE = 60.0  # seconds for some more calls, on a machine that is busy with others
_SOME = 20


def begin(forkd: Installed, transport: str, concurrency: str, **keys: Any) -> Callers:
    """Start it with a service `ledger` on a transport; return who calls, not started yet."""
    forkd.write("ledger.py", SERVER)
    keys = {"workers": 2, "concurrency": concurrency, **keys}
    forkd.configure({"ledger": {"server": "ledger:Ledger", "topic": "ledger", "transport": transport, **keys}})
    forkd.start()
    return Callers(transport, str(forkd.runtime_dir))


class Callers:
    """Threads and tasks that book one key after the other: with a client of their own, with a shared one, in a loop."""

    def __init__(self, transport: str, runtime_dir: str) -> None:
        self.booked: list[int] = []
        self.errors: list[Exception] = []
        self._client = partial(rpc.Client, "ledger", transport, runtime_dir=runtime_dir)
        self._async_client = partial(rpc.AsyncClient, "ledger", transport, runtime_dir=runtime_dir)
        self._shared = self._client()
        self._keys = itertools.count()
        self._over = threading.Event()
        runs: list[Callable[[], object]] = [self._alone, self._alone, self._together, self._together, self._in_a_loop]
        self._threads = [threading.Thread(target=run) for run in runs]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._shared.close()

    def go_on(self) -> None:
        """Return when some more calls were answered."""
        before = len(self.booked)
        until(lambda: len(self.booked) > before + _SOME, _PATIENCE, "calls are answered")

    def check(self, forkd: Installed) -> None:
        """Find each call answered, and all that were answered in the ledger, once; when none is under way."""
        assert self.errors == []
        booked = [int(key) for key in (forkd.folder / "booked").read_text().split()]
        assert sorted(booked) == sorted(self.booked)

    def _alone(self) -> None:
        with self._client() as client:
            self._book(client)

    def _together(self) -> None:
        self._book(self._shared)

    def _book(self, client: rpc.Client) -> None:
        while not self._over.is_set():
            key = next(self._keys)
            try:
                assert client.call("book", key=key) == key
                self.booked.append(key)
            except Exception as error:  # noqa: BLE001 -- every failure counts, whatever it is
                self.errors.append(error)

    def _in_a_loop(self) -> None:
        asyncio.run(self._book_in_tasks())

    async def _book_in_tasks(self) -> None:
        async with self._async_client() as client:
            await asyncio.gather(*(self._book_in_task(client) for _ in range(2)))

    async def _book_in_task(self, client: rpc.AsyncClient) -> None:
        while not self._over.is_set():
            key = next(self._keys)
            try:
                assert await client.call("book", key=key) == key
                self.booked.append(key)
            except Exception as error:  # noqa: BLE001 -- as above
                self.errors.append(error)
