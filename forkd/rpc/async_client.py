"""Calls the methods of a topic from asyncio: as `rpc.Client`, with coroutines. Starts no thread."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.rpc.prepared import Prepared
from forkd.rpc.transports import async_transport
from forkd.rpc.wire import Unsendable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from forkd.rpc.transports import AsyncTransport


class AsyncClient(Prepared):
    """A caller of one topic, as `rpc.Client`. Any number of tasks may share it; each event loop gets connections."""

    async def call(self, method: str, /, **args: Any) -> Any:
        """As `Client.call`. A task that is cancelled gives its call up; a method that has begun by then runs on."""
        return await self._ask(method, args, cast=False)

    async def cast(self, method: str, /, **args: Any) -> None:
        """As `Client.cast`."""
        await self._ask(method, args, cast=True)

    async def fanout(self, method: str, /, **args: Any) -> dict[str, Any]:
        """As `Client.fanout`."""
        prepared = self._prepared
        try:
            answers = await self._link.transport().ask_all(prepared.outgoing(method, args), prepared.deadline())
        except Unsendable as error:
            raise prepared.unsendable(method, error) from None
        return {worker: prepared.outcome(answer) for worker, answer in answers.items()}

    async def close(self) -> None:
        """Close the running loop's connections; calls in flight raise `WorkerLost`. The next call opens new ones."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _link_up(self, url: str, runtime_dir: str | None) -> None:
        self._link = _AsyncLink(url, self.topic, runtime_dir)

    async def _ask(self, method: str, args: dict[str, Any], *, cast: bool) -> Any:
        prepared = self._prepared
        try:
            answer = await self._link.transport().ask(prepared.outgoing(method, args, cast=cast), prepared.deadline())
        except Unsendable as error:
            raise prepared.unsendable(method, error) from None
        return prepared.result(answer)


class _AsyncLink:
    """The transports of a client and of all that were prepared from it: one for each event loop that uses them."""

    def __init__(self, url: str, topic: str, runtime_dir: str | None) -> None:
        self._make = partial(async_transport, url, topic, runtime_dir)
        self._make()  # what cannot be made is told at once
        self._transports: dict[asyncio.AbstractEventLoop, tuple[int, AsyncTransport]] = {}  # each with its process

    def transport(self) -> AsyncTransport:
        loop = asyncio.get_running_loop()
        pid, transport = self._transports.get(loop, (0, None))
        return transport if transport is not None and pid == os.getpid() else self._connect(loop)

    async def close(self) -> None:
        _, transport = self._transports.pop(asyncio.get_running_loop(), (0, None))
        if transport is not None:
            await transport.close()

    def _connect(self, loop: asyncio.AbstractEventLoop) -> AsyncTransport:
        """Make this loop's transport, and forget those of loops that are closed, or were the parent's of a fork."""
        for other, (pid, transport) in list(self._transports.items()):
            if other.is_closed() or pid != os.getpid():
                self._transports.pop(other, None)
                transport.forget()
        mine = self._make()
        self._transports[loop] = os.getpid(), mine
        return mine
