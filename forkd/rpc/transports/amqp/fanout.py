"""A call to all workers of a topic: it goes to the queue of each place, whoever gets it says so at once, then answers.

A broker does not tell how many queues a message went to. But each worker consumes from the queue of its topic and from
that of its place: when the places that have the call have as many consumers as the topic, nobody is missing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import Busy, Moved, NoSuchTopic, RpcError, Timeout, WorkerLost
from forkd.rpc.transports.amqp import frames, names
from forkd.rpc.transports.amqp.dialogue import CALLS
from forkd.rpc.transports.amqp.notes import Answer, Count, Full, Gone, Wait
from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.rpc.transports.amqp.frames import Properties
    from forkd.rpc.transports.amqp.notes import Box, Connected, Steps
    from forkd.rpc.wire import Message

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks for workers that may be missing


class FanOut:
    """One call and its answers, by place: `HOST/SERVICE/SLOT`. `workers` has the identity of who got it there."""

    def __init__(self, connection: Connected, topic: str, deadline: float) -> None:
        self.workers: dict[str, str] = {}
        self.answers: dict[str, Message] = {}
        self._connection = connection
        self._dialogue = connection.dialogue
        self._topic = topic
        self._deadline = deadline
        self._missing: RpcError | None = Timeout(f"{topic}: a worker has not said that it got the call")
        self._gone: RpcError | None = None
        self._first = 0  # how many workers there were before
        self._looks = 0  # that found nobody missing

    def ask(self, box: Box, make_box: Callable[[], Box], body: bytes, properties: Properties) -> Steps[None]:
        """Send the call and take answers until all are there, or the deadline. Raise `RpcError` if there is nobody.

        `Moved`: nothing was sent, since the connection is over.
        """
        first = (yield from self._consumers(make_box(), [names.of_topic(self._topic)]))[0]
        if first is None:
            raise NoSuchTopic(f"nobody serves the topic {self._topic!r}: the broker has no queue of it")
        self._first = first
        to_all = frames.publish(CALLS, self._topic.encode(), exchange=names.EXCHANGE.encode())
        if not self._dialogue.enter(box):
            raise Moved(f"{self._topic}: the connection is over")
        try:
            self._dialogue.publish(box, to_all, body, properties)
            yield from self._gather(box, make_box)
        finally:
            self._dialogue.leave(box)
        if not self.workers:
            raise self._gone or Timeout(f"{self._topic}: no worker was ready within the deadline")

    def outcomes(self) -> dict[str, Message | RpcError]:
        """Return what each worker answered, or why it did not, by its identity."""
        late = self._gone or Timeout(f"{self._topic}: no answer within the deadline")
        found = {worker: self.answers.get(place, late) for place, worker in self.workers.items()}
        return found | ({"?": self._missing} if self._missing else {})

    def _gather(self, box: Box, make_box: Callable[[], Box]) -> Steps[None]:
        pause = _FIRST_PAUSE
        while left_until(self._deadline) and not self._gone:
            if self._missing is None and self.answers.keys() == self.workers.keys():
                return
            until = self._deadline if self._missing is None else min(self._deadline, time.monotonic() + pause)
            note = yield Wait(self._connection, box, until)
            self._take(note)
            if self._missing is not None and self.workers and (note is None or len(self.workers) >= self._first):
                pause = min(2 * pause, _LONGEST_PAUSE)
                yield from self._look(make_box())

    def _take(self, note: Any) -> None:
        match note:
            case Answer(message=message, worker=worker):
                place = worker.rpartition("/")[0]
                self.workers.setdefault(place, worker)
                if message["type"] == "answer":
                    self.answers[place] = message
            case Full():
                self._missing = self._missing and Busy(f"{self._topic}: as many calls wait for a worker as may")
            case Gone(why=why):
                self._gone = WorkerLost(f"{self._topic}: the connection to the broker was lost: {why}")

    def _look(self, box: Box) -> Steps[None]:
        """Find out whether a worker is missing; where workers come or go at this moment it takes a second look."""
        places = [place.split("/") for place in self.workers]
        queues = [names.of_place(self._topic, host, int(slot)) for host, _, slot in places]
        try:
            counts = yield from self._consumers(box, [names.of_topic(self._topic), *queues])
        except RpcError:
            return  # the next note tells why
        now, *found = [count or 0 for count in counts]
        if sum(found) >= min(now, self._first):
            self._looks += 1
            if now == self._first or self._looks > 1:
                self._missing = None

    def _consumers(self, box: Box, queues: list[str]) -> Steps[list[int | None]]:
        """Return how many consumers each of the queues has; None where there is no such queue."""
        if not self._dialogue.enter(box):
            raise Moved(f"{self._topic}: the connection is over")
        found: list[int | None] = []
        try:
            self._dialogue.count(box, queues)
            for _ in queues:
                note = yield Wait(self._connection, box, self._deadline)
                if isinstance(note, Gone):
                    raise Moved(f"{self._topic}: the connection is over: {note.why}")
                if not isinstance(note, Count):
                    raise Timeout(f"{self._topic}: the broker has not answered within the deadline")
                found.append(note.consumers)
        finally:
            self._dialogue.leave(box)
        return found
