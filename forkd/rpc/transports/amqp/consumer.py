"""One connection of a worker, from its first consumer to its end: what comes on it, heartbeats, what goes out on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.rpc.transports.amqp import frames
from forkd.rpc.transports.amqp.frames import Message
from forkd.rpc.transports.amqp.link import Lost
from forkd.rpc.transports.waits import until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkd.crews import Reader
    from forkd.rpc.transports.amqp.frames import Method
    from forkd.rpc.transports.amqp.link import Link
    from forkd.threadgroup import ThreadGroup

CHANNEL = 1
_FLUSH = 1.0  # seconds after which a wait for room looks whether it is still of use


class Consumer:
    """It has the messages of its queues from `begun` until `cancelled`; these events, and `over`, stay set.

    All are set at the end of the connection. What comes is read in the loop of `reader`.
    """

    def __init__(self, link: Link, heartbeat: int, group: ThreadGroup, reader: Reader) -> None:
        """`heartbeat` in seconds: after twice that without a word of the broker the connection is over."""
        self.link = link
        self.begun, self.cancelled, self.over = group.event(), group.event(), group.event()
        self._heartbeat = heartbeat
        self._group = group
        self._reader = reader
        self._queues: set[bytes] = set()  # whose messages come; a consumer's tag is the name of its queue
        self._wanted = 0
        self._flushing = False
        self._why = ""  # it was ended here

    def begin(self, queues: Sequence[str], take: Callable[[Message], None], end: Callable[[str], None]) -> None:
        """Ask for the messages of queues, and give each to `take`; call `end` with the reason when nothing comes more.

        Neither may block.
        """
        self._wanted = len(queues)
        self._take = take
        self._tell_end = end
        names = [queue.encode() for queue in queues]
        self.link.send(b"".join([frames.consume(CHANNEL, name, name) for name in names]))
        self._reader.add(self.link.socket.fileno(), self._on_readable)
        interval = self._heartbeat / 2
        self._pulse = self._group.add_timer(interval, self._beat, initial_delay=interval)

    def cancel(self) -> None:
        """Have no more of them sent."""
        self.link.send(b"".join([frames.cancel(CHANNEL, name) for name in self._queues]))

    def farewell(self) -> None:
        """Tell the broker that this is the end; it comes when the broker has taken all that was sent before."""
        self.link.send(frames.method(0, frames.CONNECTION_CLOSE, frames.CLOSE))

    def send(self, chunk: bytes) -> None:
        """Write whole frames, now or when the broker takes them. Never blocks nor raises."""
        self.link.send(chunk)
        if self.link.is_full and not self._flushing:
            self._flushing = True
            try:
                self._group.add_loop(self._flush)
            except ForkdError as error:  # the group is stopped, or the system has no thread to give
                self.cut(str(error))

    def cut(self, why: str) -> None:
        """End the connection without a word; the loop that reads sees it."""
        self._why = self._why or why
        self.link.shut()

    def close(self) -> None:
        """Give the descriptor back: in the loop that reads, or after its end."""
        if self.over.is_set():
            return
        self._pulse.stop()
        self._reader.remove(self.link.socket.fileno())
        self.link.close()
        for event in (self.begun, self.cancelled, self.over):
            event.set()

    def _on_readable(self) -> None:
        try:
            for found in self.link.receive():
                if isinstance(found, Message):
                    self._take(found)
                else:
                    self._hear(found)
        except Lost as error:
            self.close()
            self._tell_end(self._why or str(error))

    def _hear(self, method: Method) -> None:
        match method.method:
            case frames.CONSUME_OK:
                self._queues.add(method.arguments[1:])
                if len(self._queues) == self._wanted:
                    self.begun.set()
            case frames.CANCEL_OK:
                self._queues.discard(method.arguments[1:])
                if not self._queues:
                    self.cancelled.set()
            case frames.CANCEL:
                raise Lost("somebody deleted a queue")
            case frames.CHANNEL_CLOSE | frames.CONNECTION_CLOSE:
                raise self.link.part(method)
            case frames.CONNECTION_CLOSE_OK:
                raise Lost("closed as asked")

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self.link.last_heard > 2 * self._heartbeat:
            self.cut(f"the broker has said nothing for {2 * self._heartbeat} s")
        elif now - self.link.last_sent >= self._heartbeat / 2 and not self.link.is_full:
            self.link.send(frames.HEARTBEAT)

    def _flush(self) -> None:
        """Write what the socket did not take at once, when it does: a loop of its own while there is any."""
        try:
            while self.link.is_full and not self.over.is_set():
                until_ready([], [self.link.socket], _FLUSH)
                self.link.push()
        finally:
            self._flushing = False
