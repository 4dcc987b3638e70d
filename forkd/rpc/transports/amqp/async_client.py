"""A caller's side of the amqp transport within an event loop: as `client`, for tasks instead of threads."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Any, TypeVar

from forkd.rpc.errors import BrokerUnavailable, WorkerLost
from forkd.rpc.transports.amqp.async_connection import AsyncConnection
from forkd.rpc.transports.amqp.brokers import made_link, pauses
from forkd.rpc.transports.amqp.connecting import NoBroker
from forkd.rpc.transports.amqp.notes import Box, Wait
from forkd.rpc.transports.amqp.steps import Calls
from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    from forkd.rpc.errors import RpcError
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.amqp.address import Address
    from forkd.rpc.transports.amqp.link import Link
    from forkd.rpc.transports.amqp.notes import Connect, Steps
    from forkd.rpc.wire import Message

T = TypeVar("T")


class AsyncAmqpClient:
    """The calls of one event loop to one topic. While it connects, and only then, it uses a thread of the loop's."""

    def __init__(self, topic: str, address: Address) -> None:
        self._topic = topic
        self._address = address
        self._connection: AsyncConnection | None = None
        self._search = asyncio.Lock()  # of the one task that connects
        self._closed = False
        numbers = itertools.count(1)
        self._calls = Calls(topic, lambda: Box(next(numbers), asyncio.Queue()))

    async def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `AsyncTransport`."""
        return (await self._go(self._calls.ask(call, deadline))).message

    async def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `AsyncTransport`."""
        return await self._go(self._calls.ask_all(call, deadline))

    async def close(self) -> None:
        """As in `AsyncTransport`."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    def forget(self) -> None:
        """As in `AsyncTransport`."""
        if self._connection is not None:
            self._connection.forget()

    async def _go(self, steps: Steps[T]) -> T:
        try:
            wanted = next(steps)
            while True:
                try:
                    found = await self._await(wanted)
                except BaseException as error:  # noqa: BLE001 -- also when the task is cancelled the steps tidy up
                    wanted = steps.throw(error)
                else:
                    wanted = steps.send(found)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _await(self, wanted: Connect | Wait) -> Any:
        if isinstance(wanted, Wait):
            return await wanted.connection.wait(wanted.box, wanted.deadline)
        if self._connection is not None and not self._connection.dialogue.over:
            return self._connection
        try:
            async with asyncio.timeout(None if wanted.deadline == math.inf else left_until(wanted.deadline)):
                async with self._search:
                    if self._connection is None or self._connection.dialogue.over:
                        self._connection = await self._connect(wanted.deadline)
                    return self._connection
        except TimeoutError:
            text = f"{self._topic}: no broker can be reached: {self._address.shown}: not within the deadline"
            raise BrokerUnavailable(text) from None

    async def _connect(self, deadline: float) -> AsyncConnection:
        for pause in pauses():
            if self._closed:
                raise WorkerLost(f"{self._topic}: the client was closed")
            making = asyncio.ensure_future(asyncio.to_thread(made_link, self._topic, self._address, deadline))
            try:
                return AsyncConnection(await asyncio.shield(making), self._address.heartbeat)
            except NoBroker as error:
                if left_until(deadline) <= pause:
                    raise BrokerUnavailable(f"{self._topic}: {error}") from None
            except asyncio.CancelledError:
                making.add_done_callback(_throw_away)
                raise
            await asyncio.sleep(pause)
        raise AssertionError


def _throw_away(making: asyncio.Future[Link]) -> None:
    """Close the connection that came too late for who wanted it."""
    if not making.cancelled() and making.exception() is None:
        making.result().close()
