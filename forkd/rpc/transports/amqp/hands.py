"""The calls that a worker has in hand: what is done with each that comes, and with what it comes to.

A delivery can be acknowledged only on the connection that it came on. When that is lost, the broker delivers the call
again: to this very worker, and nothing is lost, or to another, which tells the caller that its worker was.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from forkd.errors import ProtocolError
from forkd.rpc.answers import failed
from forkd.rpc.errors import Failure
from forkd.rpc.transports.amqp import frames, names
from forkd.rpc.transports.amqp.consumer import CHANNEL
from forkd.rpc.transports.amqp.frames import Properties
from forkd.rpc.wire import HEADER, MESSAGE_LIMIT, frame, request, unpack

if TYPE_CHECKING:
    from forkd.rpc.dispatcher import Dispatcher
    from forkd.rpc.transports.amqp.consumer import Consumer
    from forkd.rpc.transports.amqp.frames import Message

_log = logging.getLogger("forkd.rpc")

_ALL = names.EXCHANGE.encode()


class Hands:
    """Every call that came and is not answered, by its caller and its number there; `consumer` is the one of now."""

    def __init__(self, dispatcher: Dispatcher, worker: str) -> None:
        self.consumer: Consumer | None = None
        self._dispatcher = dispatcher
        self.worker = worker
        self._idempotent = frozenset(dispatcher.idempotent)
        self._lock = threading.Lock()  # guards the calls, and what each of them came with
        self._calls: dict[tuple[bytes, int], _Call] = {}

    def take(self, consumer: Consumer, message: Message) -> None:
        """Have a call run, or answer at once why not; a message that is none is dropped."""
        try:
            if len(message.body) > MESSAGE_LIMIT:
                raise ProtocolError(f"it takes {len(message.body)} bytes, and {MESSAGE_LIMIT} is the most")
            asked = request(unpack(message.body))
        except ProtocolError as error:
            _log.warning("a message was dropped: %s", error)
            consumer.send(frames.ack(CHANNEL, message.tag))
            return
        call = _Call(self, consumer, message, asked.id)
        if message.again and self._adopt(call):
            return
        refusal = self._refusal(message, asked.method)
        if refusal is not None:
            call.answer(failed(asked.id, refusal))
            return
        if message.exchange == _ALL:
            call.say(frame({"type": "begun", "id": asked.id}))
        self._calls[call.key] = call
        self._dispatcher.submit(asked, call.answer)

    def let_go(self, call: _Call) -> tuple[Consumer, int]:
        """Forget a call that is answered; return how it is to be acknowledged: with which tag, and where."""
        with self._lock:
            self._calls.pop(call.key, None)
            return call.consumer, call.tag

    def _adopt(self, call: _Call) -> bool:
        """Tell whether this very worker has the call in hand, which it had on a connection that was lost."""
        with self._lock:
            mine = self._calls.get(call.key)
            if mine is not None:
                mine.consumer, mine.tag = call.consumer, call.tag
        return mine is not None

    def _refusal(self, message: Message, method: str) -> Failure | None:
        wanted = message.app_id.decode(errors="replace")
        if wanted and not f"{self.worker}/".startswith(f"{wanted}/"):
            return Failure("no-such-worker", f"no worker {wanted!r:.200}; in its slot is {self.worker}")
        if message.again:
            kind = "again" if method in self._idempotent else "lost"
            return Failure(kind, "the worker that had the call was lost; it may have run")
        return None


class _Call:
    """A call in hand: `consumer` and `tag` say how it is acknowledged."""

    __slots__ = ("_hands", "_named", "_reply_to", "consumer", "key", "tag")

    def __init__(self, hands: Hands, consumer: Consumer, message: Message, number: int) -> None:
        self.consumer = consumer
        self.tag = message.tag
        self.key = (message.reply_to, number)
        self._hands = hands
        self._reply_to = message.reply_to
        self._named = bool(message.app_id) or message.exchange == _ALL

    def answer(self, data: bytes) -> None:
        """Send the frame of the answer, and acknowledge the call with it. Never blocks nor raises."""
        consumer, tag = self._hands.let_go(self)
        if not consumer.over.is_set():
            consumer.send(self._message(data, consumer.link.frame_max) + frames.ack(CHANNEL, tag))
        elif self._hands.consumer is not None:  # the broker has it still, but the caller may be there
            self._hands.consumer.send(self._message(data, self._hands.consumer.link.frame_max))

    def say(self, data: bytes) -> None:
        """Send a frame to the caller, before the answer."""
        self.consumer.send(self._message(data, self.consumer.link.frame_max))

    def _message(self, data: bytes, largest: int) -> bytes:
        properties = Properties(app_id=self._hands.worker.encode() if self._named else b"")
        return frames.publish(CHANNEL, self._reply_to) + frames.content(CHANNEL, data[HEADER:], properties, largest)
