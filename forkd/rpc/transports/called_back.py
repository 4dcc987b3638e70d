"""An event loop's way to a transport that has a thread of its own, and tells from there what a call came to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports import CallbackTransport
    from forkd.rpc.wire import Message


class CalledBack:
    """The calls of one event loop, over a transport that is this one's alone."""

    def __init__(self, transport: CallbackTransport) -> None:
        self._transport = transport

    async def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `AsyncTransport`."""
        answer: Message = await _outcome(lambda done: self._transport.begin(call, deadline, done))
        return answer

    async def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `AsyncTransport`."""
        answers: dict[str, Message | RpcError] = await _outcome(
            lambda done: self._transport.begin_all(call, deadline, done)
        )
        return answers

    async def close(self) -> None:
        """As in `AsyncTransport`."""
        await asyncio.to_thread(self._transport.close)

    def forget(self) -> None:
        """As in `AsyncTransport`."""
        self._transport.forget()


async def _outcome(begin: Callable[[Callable[[Any], None]], Callable[[], None]]) -> Any:
    """Return what a call comes to, or raise it; a caller that is cancelled meanwhile gives the call up."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def done(found: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, future, found)

    give_up = begin(done)
    try:
        found = await future
    except asyncio.CancelledError:
        give_up()
        raise
    if isinstance(found, RpcError):
        raise found
    return found


def _settle(future: asyncio.Future[Any], found: Any) -> None:
    if not future.done():  # its task may have been cancelled just now
        future.set_result(found)
