"""The connections of an event loop whose tasks share them: how one waits for a worker to get ready."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING

from forkd.rpc.errors import Timeout
from forkd.rpc.transports.local.async_connection import AsyncConnection
from forkd.rpc.transports.local.slots import Slots
from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    import socket


class AsyncConnections(Slots[AsyncConnection]):
    """Of all tasks that need a worker one looks for slots, and the others wait for it."""

    def __init__(self, topic: str, directory: str) -> None:
        super().__init__(topic, directory, self._made)
        self._search = asyncio.Lock()
        self._news = asyncio.Event()  # set for an instant, when a connection has become usable or is over

    async def choose(self, deadline: float, worker: int | str | None) -> AsyncConnection:
        """Return the connection that a call for this worker, of `Outgoing`, is to be sent on.

        Raise `NoSuchTopic` or `NoSuchWorker` at once, `Timeout` at the monotonic `deadline`.
        """
        best = self.best(worker)
        if best is None or not self.is_settled():
            self.refresh(worker)
            best = self.best(worker)
        return best or await self._await_best(deadline, worker)

    def close(self) -> None:
        """As in `Slots`; tasks that wait for a worker are told, too."""
        super().close()
        self._tell()

    async def _await_best(self, deadline: float, worker: int | str | None) -> AsyncConnection:
        looks = 0
        try:
            async with asyncio.timeout(None if deadline == math.inf else left_until(deadline)):
                while (best := self.best(worker)) is None:
                    async with self._search:
                        if self.best(worker) is None:
                            await self._await_news(self.pause(looks))
                            self.refresh(worker)
                    looks += 1
        except TimeoutError:
            raise Timeout(f"{self.topic}: no worker was ready within the deadline") from None
        return best

    async def _await_news(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _made(self, sock: socket.socket, slot: str) -> AsyncConnection:
        return AsyncConnection(sock, slot, self._tell)

    def _tell(self) -> None:
        self._news.set()
        self._news.clear()
