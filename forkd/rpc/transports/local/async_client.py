"""The local transport within an event loop: as `client`, for tasks instead of threads."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from forkd.rpc.errors import Moved, NoSuchWorker, RpcError, WorkerLost
from forkd.rpc.transports.local.async_connections import AsyncConnections
from forkd.rpc.wire import frame

if TYPE_CHECKING:
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.local.async_connection import AsyncConnection
    from forkd.rpc.wire import Message


class AsyncLocalClient:
    """The calls of one event loop to one topic."""

    def __init__(self, topic: str, directory: str) -> None:
        self._connections = AsyncConnections(topic, directory)
        self._ids = itertools.count(1)

    async def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `AsyncTransport`: send a call to the worker with the fewest in flight and return its answer."""
        losses = 0
        while True:
            connection = await self._connections.choose(deadline, call.worker)
            try:
                return await self._ask_on(connection, call, deadline)
            except Moved:
                continue
            except WorkerLost:
                losses += 1
                if not self._connections.may_repeat(call.method, connection, losses):
                    raise

    async def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `AsyncTransport`: all slots at the same time; those that are not ready have time to get so."""
        frame(call.message(0, deadline))  # before anybody is asked: it may be one that cannot be sent
        slots = self._connections.refresh(None)
        found = await asyncio.gather(*(self._ask_slot(slot, call, deadline) for slot in slots))
        return dict(each for each in found if each is not None)

    async def close(self) -> None:
        """As in `AsyncTransport`."""
        self._connections.close()

    def forget(self) -> None:
        """As in `AsyncTransport`."""
        self._connections.forget()

    async def _ask_slot(self, slot: int, call: Outgoing, deadline: float) -> tuple[str, Message | RpcError] | None:
        """Return who answered in a slot and what, or why nobody did; None where the slot has gone."""
        path = name = self._connections.path(slot)
        while True:
            try:
                connection = await self._connections.choose(deadline, slot)
                name = connection.name
                return name, await self._ask_on(connection, call, deadline)
            except Moved:
                name = path
            except NoSuchWorker:
                return None
            except RpcError as error:
                return name, error

    async def _ask_on(self, connection: AsyncConnection, call: Outgoing, deadline: float) -> Message:
        number = next(self._ids)
        return await connection.ask(number, frame(call.message(number, deadline)), deadline)
