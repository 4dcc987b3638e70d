"""A client's connection to one worker within an event loop: its callbacks read and write, an answer is a future."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.rpc.errors import Moved, RpcError, Timeout
from forkd.rpc.transports.local.dialogue import Dialogue
from forkd.rpc.transports.local.waits import left_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from forkd.rpc.wire import Message


class _Unsent(NamedTuple):
    """A frame that the socket has not taken yet, or the rest of one; of what has `begun` the rest must follow."""

    number: int
    data: memoryview
    begun: bool


class AsyncConnection(Dialogue):
    """The stream of any number of tasks of one loop; `changed` is called when it has become usable or is over."""

    def __init__(self, sock: socket.socket, slot: str, changed: Callable[[], None]) -> None:
        super().__init__(sock, slot)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[_Unsent] = deque()
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
        self._give_back()
        super().lose(why)
        self.discard()

    def discard(self) -> None:
        """As in `Dialogue`."""
        if self.over and not self.pending and self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self._loop.remove_writer(self.sock)
            self.sock.close()

    def _send(self, number: int, frame: bytes) -> None:
        sent = 0
        if not self._outbox:
            try:
                sent = self.sock.send(frame)
            except BlockingIOError:
                pass
            except OSError:
                # What the worker wrote before it went is still to be read.
                self.retire()
                self._changed()
                raise Moved(self.name) from None
            if sent == len(frame):
                return
            self._loop.add_writer(self.sock, self._flush)
        self._outbox.append(_Unsent(number, memoryview(frame)[sent:], sent > 0))

    def _flush(self) -> None:
        """Write what the socket takes of what waits."""
        try:
            while self._outbox:
                number, data, _ = self._outbox[0]
                sent = self.sock.send(data)
                if sent < len(data):
                    self._outbox[0] = _Unsent(number, data[sent:], begun=True)
                    return
                self._outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._give_back()
            self.retire()
            self._changed()
        self._loop.remove_writer(self.sock)

    def _give_back(self) -> None:
        """Have the calls that are not sent sent elsewhere."""
        unsent, self._outbox = self._outbox, deque()
        for each in unsent:
            take = self.pending.pop(each.number, None)
            if take is not None:
                take(Moved(self.name))

    def _leave(self, number: int) -> None:
        """Forget a call: it is answered, or its caller has given up, perhaps before any of it was sent."""
        self.pending.pop(number, None)
        if self._outbox:
            self._outbox = deque(each for each in self._outbox if each.begun or each.number != number)
        if self.over:
            self.discard()


def _settle(future: asyncio.Future[Any], found: Any) -> None:
    if not future.done():  # its task may have been cancelled just now
        future.set_result(found)
