"""A call over a broker, step by step: where it goes, what its answer means, and what is sent again.

The steps are generators: they yield what is to be waited for and are sent what came of it. So threads, native and green
ones, and the tasks of an event loop go through the same.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import (
    Again,
    BrokerUnavailable,
    Busy,
    Moved,
    NoSuchTopic,
    NoSuchWorker,
    RpcError,
    Timeout,
    WorkerLost,
    from_failure,
)
from forkd.rpc.transports.amqp import frames, names
from forkd.rpc.transports.amqp.dialogue import CALLS
from forkd.rpc.transports.amqp.fanout import FanOut
from forkd.rpc.transports.amqp.frames import Properties
from forkd.rpc.transports.amqp.notes import Answer, Connect, Full, Gone, Returned, Wait
from forkd.rpc.transports.amqp.patience import Patience, expiration
from forkd.rpc.transports.waits import left_until
from forkd.rpc.wire import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.amqp.dialogue import Dialogue
    from forkd.rpc.transports.amqp.notes import Box, Connected, Steps
    from forkd.rpc.wire import Message

_REPLIES = names.REPLIES.encode()


class Calls:
    """The calls to one topic; `box` makes a box, with a number that no other has."""

    def __init__(self, topic: str, box: Callable[[], Box]) -> None:
        self._topic = topic
        self._box = box
        self._patience: defaultdict[str, Patience] = defaultdict(Patience)  # by method
        self._to_any = frames.publish(CALLS, names.of_topic(topic).encode(), mandatory=True)

    def ask(self, call: Outgoing, deadline: float, *, has_lost: bool = False) -> Steps[Answer]:
        """Return the answer; raise `RpcError` where there is none, and `Unsendable`.

        A call that its worker did not begin goes to another, until the deadline; an idempotent one whose worker was
        lost does once: a call that kills whoever begins it must not kill all.
        """
        to = self._to(call.worker)
        while True:
            answer = yield from self._try(call, to, deadline)
            again = None if answer is None else _again(answer.message)
            if isinstance(again, Again):
                if has_lost:
                    raise WorkerLost(str(again))
                has_lost = True
            elif answer is not None and again is None:
                return answer

    def ask_all(self, call: Outgoing, deadline: float) -> Steps[dict[str, Message | RpcError]]:
        """Return what each worker answered, or why it did not, by its identity; raise `RpcError` if there is none.

        Where one drains, or is lost with a call that may run again, its place is asked again.
        """
        fanout = yield from self._fan_out(call, deadline)
        rest: dict[str, Message | RpcError] = {}
        for place, message in list(fanout.answers.items()):
            again = _again(message)
            if again is None:
                continue
            try:
                answer = yield from self.ask(call._replace(worker=place), deadline, has_lost=isinstance(again, Again))
                fanout.workers[place], fanout.answers[place] = answer.worker, answer.message
            except RpcError as error:
                rest[fanout.workers.pop(place)] = error
        return fanout.outcomes() | rest

    def _fan_out(self, call: Outgoing, deadline: float) -> Steps[FanOut]:
        while True:
            box = self._box()
            body, properties = _body(call, box, deadline), Properties(_REPLIES, expiration(left_until(deadline)))
            fanout = FanOut((yield from self._connection(deadline)), self._topic, deadline)
            try:
                yield from fanout.ask(box, self._box, body, properties)
            except Moved:
                continue
            return fanout

    def _try(self, call: Outgoing, to: tuple[bytes, bytes], deadline: float) -> Steps[Answer | None]:
        """Send a call once and return the answer; None where it was not sent, since the connection is over."""
        connection = yield from self._connection(deadline)
        dialogue: Dialogue = connection.dialogue
        box = self._box()
        body = _body(call, box, deadline)
        if not dialogue.enter(box):
            return None
        try:
            if dialogue.blocked and not (yield from self._unblocked(connection, box, deadline)):
                return None
            patience, began = self._patience[call.method], time.monotonic()
            kept = deadline - began if call.cast else patience.kept(deadline - began)
            place = dialogue.publish(box, to[0], body, Properties(_REPLIES, expiration(kept), to[1]))
            note = yield Wait(connection, box, deadline)
            if note is None or isinstance(note, Answer):
                patience.note(time.monotonic() - began, deadline - began)
            if isinstance(note, Gone) and not dialogue.was_sent(place):
                return None
        finally:
            dialogue.leave(box)
        return self._meaning(note, call.worker)

    def _connection(self, deadline: float) -> Steps[Connected]:
        """Return a connection whose broker is there; one of which nothing was heard for long is asked first."""
        while True:
            connection: Connected = yield Connect(deadline)
            dialogue = connection.dialogue
            if not dialogue.is_quiet:
                return connection
            box = self._box()
            if dialogue.enter(box):
                dialogue.probe(box.number)
                patience = min(deadline, dialogue.due)
                note = yield Wait(connection, box, patience)
                dialogue.leave(box)
                if note is None and patience < deadline:
                    dialogue.end("the broker says nothing")
                elif note is None:
                    raise BrokerUnavailable(f"{self._topic}: the broker says nothing")
                elif not isinstance(note, Gone):
                    return connection

    def _unblocked(self, connection: Connected, box: Box, deadline: float) -> Steps[bool]:
        """Wait until the broker takes calls; return False where the connection is over."""
        while connection.dialogue.hold(box):
            note = yield Wait(connection, box, deadline)
            if note is None:
                raise BrokerUnavailable(f"{self._topic}: the broker takes no calls: {connection.dialogue.blocked}")
            if isinstance(note, Gone):
                return False
        return True

    def _to(self, worker: int | str | None) -> tuple[bytes, bytes]:
        """Return the frame that begins a call for this worker, of `Outgoing`, and its name, if it must be this one."""
        if worker is None:
            return self._to_any, b""
        if isinstance(worker, int):
            host, slot, name = socket.gethostname(), worker, b""
        else:
            host, _, number, *_ = worker.split("/")
            slot, name = int(number), worker.encode()
        return frames.publish(CALLS, names.of_place(self._topic, host, slot).encode(), mandatory=True), name

    def _meaning(self, note: Any, worker: int | str | None) -> Answer:
        """Return the answer that a note is, or raise what it means."""
        topic = self._topic
        match note:
            case Answer():
                return note
            case None:
                raise Timeout(f"{topic}: no answer within the deadline")
            case Returned() if worker is not None:
                raise NoSuchWorker(f"{topic}: no worker {worker!r}")
            case Returned():
                raise NoSuchTopic(f"nobody serves the topic {topic!r}: the broker has no queue of it")
            case Full():
                raise Busy(f"{topic}: as many calls wait for a worker as may")
            case Gone(why=why):
                raise WorkerLost(f"{topic}: the connection to the broker was lost: {why}; the call may have run")
        raise AssertionError(note)


def _body(call: Outgoing, box: Box, deadline: float) -> bytes:
    return bytes(pack(call.message(box.number, deadline)))


def _again(message: Message) -> Exception | None:
    """Return why a call is to be sent again, `Moved` or `Again`; None where the answer is one."""
    error: Any = message.get("error")
    return from_failure(error) if isinstance(error, list) and error[:1] in (["moved"], ["again"]) else None
