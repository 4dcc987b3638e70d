"""What a caller and its broker say on one connection, and what that means for each call; who waits is not known here.

Calls and their answers go on one channel, which is told of each call whether the broker has it; another one counts the
consumers of queues, since a channel does not survive the question for a queue that is not there.
"""

from __future__ import annotations

import collections
import threading
import time
from typing import TYPE_CHECKING, Protocol

from forkd.errors import ProtocolError
from forkd.rpc.transports.amqp import frames
from forkd.rpc.transports.amqp.frames import Message as Delivery
from forkd.rpc.transports.amqp.link import Lost
from forkd.rpc.transports.amqp.notes import Answer, Count, Full, Gone, Heard, Returned, Unblocked
from forkd.rpc.wire import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from forkd.rpc.transports.amqp.frames import Method, Properties
    from forkd.rpc.transports.amqp.link import Link
    from forkd.rpc.transports.amqp.notes import Box

CALLS, COUNTS = 1, 2
"""The channels."""


class Boxes(Protocol):
    """Those who wait."""

    def enter(self, box: Box) -> bool:
        """Take a box in; return whether it was in time: before `disperse`."""

    def leave(self, box: Box) -> None:
        """Take it out."""

    def tell(self, number: int, note: Any) -> None:
        """Put a note into a caller's box, if it is in."""

    def disperse(self, note: Any) -> None:
        """Put a last note into every box, and take no other in."""


class Dialogue:
    """It takes calls until it is `over`; what becomes of one, its caller finds as notes in its box.

    Nothing here waits. Any thread may speak; `listen` is for one at a time.
    """

    def __init__(self, link: Link, heartbeat: int, boxes: Boxes) -> None:
        """Take over a link on which answers are consumed; `heartbeat` is how many seconds of silence are enough."""
        self.over = self.leaving = False  # no calls any more, and that by our own wish
        self.blocked = ""  # why the broker takes no calls
        self.link = link
        self._boxes = boxes
        self._heartbeat = heartbeat
        self._order = threading.Lock()  # guards what the broker counts, or answers in turn: the four below
        self._published = 0
        self._unconfirmed: dict[int, int] = {}  # calls' numbers, by the order of publishing
        self._counts: collections.deque[int] = collections.deque()  # who waits for one
        self._probes: collections.deque[int] = collections.deque()  # who waits for any word of the broker; 0: nobody
        self._probed = 0.0
        self._held: set[int] = set()  # who waits until the broker takes calls again

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was heard for so long that the broker is to be asked before it gets a call."""
        return time.monotonic() - self.link.last_heard >= self._heartbeat

    @property
    def due(self) -> float:
        """When the silence will have lasted too long, as a monotonic instant, for those who wait for something."""
        return max(self.link.last_heard, self._probed) + self._heartbeat

    def enter(self, box: Box) -> bool:
        """Have notes put into a box from now on; return False where the dialogue is over."""
        return self._boxes.enter(box)

    def leave(self, box: Box) -> None:
        """Have no more notes put into a box."""
        self._held.discard(box.number)
        self._boxes.leave(box)

    def hold(self, box: Box) -> bool:
        """Return whether the broker takes no calls now; then a note comes into the box when it does."""
        self._held.add(box.number)
        return bool(self.blocked)

    def publish(self, box: Box, method: bytes, body: bytes, properties: Properties) -> int:
        """Send a call whose `method` frame says where to, for a box that is in. Return its place, for `was_sent`."""
        chunk = method + frames.content(CALLS, body, properties, self.link.frame_max)
        with self._order:
            self._published += 1
            self._unconfirmed[self._published] = box.number
            place = self.link.put(chunk)
        self.link.push()
        return place

    def was_sent(self, place: int) -> bool:
        """Tell whether the broker may have got the call that has this place."""
        return self.link.begun >= place

    def count(self, box: Box, queues: Sequence[str]) -> None:
        """Ask how many consumers each of the queues has; as many `Count` come into a box that is in."""
        with self._order:
            self._counts.extend([box.number] * len(queues))
            self.link.put(b"".join([frames.passive_declare(COUNTS, queue.encode()) for queue in queues]))
        self.link.push()

    def probe(self, number: int = 0) -> None:
        """Have the broker say something; `Heard` comes into the box of this number then, if there is one."""
        self._probed = time.monotonic()
        with self._order:
            self._probes.append(number)
            self.link.put(frames.method(CALLS, frames.QOS, frames.NO_QOS))
        self.link.push()

    def listen(self) -> None:
        """Take in what has come. Never raises."""
        try:
            for found in self.link.receive():
                if isinstance(found, Delivery):
                    self._take(found)
                else:
                    self._hear(found)
        except Lost as error:
            self.end(str(error))

    def mind_silence(self) -> None:
        """After too long a silence ask for a word of the broker; after a second one it is gone."""
        if time.monotonic() < self.due or self.blocked:  # a broker that blocks us does not hear us either
            return
        if self.link.last_heard > self._probed:
            self.probe()
        else:
            self.end(f"the broker has said nothing for {2 * self._heartbeat} s")

    def end(self, why: str) -> None:
        """Take no more calls, and tell those that wait why."""
        self.over, self.leaving = True, False
        self._boxes.disperse(Gone(why))
        self.link.shut()

    def farewell(self, why: str) -> None:
        """End in good order: the broker is to confirm it."""
        self.over = self.leaving = True
        self._boxes.disperse(Gone(why))
        self.link.send(frames.method(0, frames.CONNECTION_CLOSE, frames.CLOSE))

    def _take(self, found: Delivery) -> None:
        try:
            message = unpack(found.body)
        except ProtocolError:
            return  # nobody knows whose answer it is
        number = message.get("id")
        if isinstance(number, int):
            returned = found.method == frames.RETURN
            self._boxes.tell(number, Returned() if returned else Answer(message, found.app_id.decode(errors="replace")))

    def _hear(self, found: Method) -> None:
        match found.method:
            case frames.ACK | frames.NACK:
                self._confirm(*frames.tag(found.arguments), took=found.method == frames.ACK)
            case frames.QOS_OK:
                self._boxes.tell(self._probes.popleft(), Heard())
            case frames.DECLARE_OK:
                self._boxes.tell(self._counts.popleft(), Count(frames.consumer_count(found.arguments)))
            case frames.CHANNEL_CLOSE if found.channel == COUNTS:
                self._count_again()
            case frames.CHANNEL_CLOSE | frames.CONNECTION_CLOSE:
                raise self.link.part(found)
            case frames.CONNECTION_CLOSE_OK:
                raise Lost("closed as asked")
            case frames.BLOCKED:
                self.blocked = frames.text(found.arguments)
            case frames.UNBLOCKED:
                self.blocked = ""
                for number in list(self._held):
                    self._boxes.tell(number, Unblocked())

    def _confirm(self, last: int, multiple: bool, *, took: bool) -> None:
        if not multiple:
            numbers = [self._unconfirmed.pop(last, 0)]
        else:
            with self._order:
                places = [place for place in self._unconfirmed if place <= last]
            numbers = [self._unconfirmed.pop(place) for place in places]
        if not took:
            for number in numbers:
                self._boxes.tell(number, Full())

    def _count_again(self) -> None:
        """Open the channel anew that a question for an unknown queue has closed; all that wait on it are told so."""
        with self._order:
            numbers = list(self._counts)
            self._counts.clear()
            again = frames.method(COUNTS, frames.CHANNEL_CLOSE_OK)
            self.link.put(again + frames.method(COUNTS, frames.CHANNEL_OPEN, frames.OPEN_CHANNEL))
        self.link.push()
        for number in numbers:
            self._boxes.tell(number, Count(None))
