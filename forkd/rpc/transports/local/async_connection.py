"""A client's connection to one worker within an event loop: its callbacks read and write, an answer is a future."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import RpcError, Timeout
from forkd.rpc.transports.local.dialogue import Dialogue
from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from forkd.rpc.wire import Message


class AsyncConnection(Dialogue):
    """The stream of any number of tasks of one loop; `changed` is called when it has become usable or is over."""

    def __init__(self, sock: socket.socket, slot: str, changed: Callable[[], None]) -> None:
        super().__init__(sock, slot)
        self._changed = changed
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self.glance)

    async def ask(self, number: int, frame: bytes, deadline: float) -> Message:
        """Send a call and return its answer; raise `Moved`, `WorkerLost` or `Timeout` at the monotonic `deadline`."""
        future: asyncio.Future[Any] = self._loop.create_future()
        settle = partial(_settle, future)
        self.expect(number, settle)
        timer = None
        try:
            if deadline != math.inf:
                timer = self._loop.call_later(left_until(deadline), settle, None)
            self._send(number, frame)
            found = await future
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(number)
        if found is None:
            raise Timeout(f"{self.name}: no answer within the deadline")
        if isinstance(found, RpcError):
            raise found
        return self.checked(found)

    def glance(self) -> None:
        """As in `Dialogue`."""
        before = self.usable, self.over
        self.read()
        if before != (self.usable, self.over):
            self._changed()

    def lose(self, why: str) -> None:
        """As in `Dialogue`; a call that the worker never got all of was not begun."""
        self.give_back()
        super().lose(why)
        self.discard()

    def discard(self) -> None:
        """As in `Dialogue`."""
        if self.over and not self.pending and self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self._loop.remove_writer(self.sock)
            self.sock.close()

    def _send(self, number: int, frame: bytes) -> None:
        self.unsent.add(number, frame)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)  # with what other tasks send in this turn

    def _write(self) -> None:
        try:
            done = self.unsent.write()
        except OSError:  # what the worker wrote before it went is still to be read
            self.give_back()
            self._changed()
            done = True
        if not done:
            self._loop.add_writer(self.sock, self._write)
        elif self.sock.fileno() >= 0:
            self._loop.remove_writer(self.sock)
            self._writing = False

    def _leave(self, number: int) -> None:
        """Forget a call: it is answered, or its caller has given up, perhaps before any of it was sent."""
        self.pending.pop(number, None)
        self.unsent.remove(number)
        if self.over:
            self.discard()


def _settle(future: asyncio.Future[Any], found: Any) -> None:
    if not future.done():  # its task may have been cancelled just now
        future.set_result(found)
