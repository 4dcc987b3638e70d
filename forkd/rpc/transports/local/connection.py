"""A client's connection to one worker, shared by all of its callers, without a thread of its own.

Of the callers that wait for an answer one leads: it reads for all, and puts each answer into its caller's box. A
leader that has what it waited for appoints the next by a note in that one's box. So somebody reads exactly while
somebody waits, and the caller that waits alone reads its answer itself.
"""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any

from forkd.errors import ProtocolError
from forkd.rpc.errors import Moved, NotAllowed, RpcError, Timeout, WorkerLost
from forkd.rpc.transports.local.waits import Reading, left_until, until_ready
from forkd.rpc.wire import PROTOCOL, Frames

if TYPE_CHECKING:
    from forkd.rpc.wire import Message

_READ = 65536
_LEAD = "lead"  # the note by which a waiting caller is appointed


class Box:
    """Where a caller finds its answer, an error in its place, or the note that it is to lead."""

    __slots__ = ("notes", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.notes: queue.SimpleQueue[Any] = queue.SimpleQueue()


class Connection:
    """One stream. It is `usable` from the worker's hello until its bye or its end, and never again."""

    def __init__(self, sock: socket.socket, slot: str) -> None:
        """Take over a connected, non-blocking socket; `slot` is the path of the worker's socket."""
        self.slot = slot
        self.usable = False
        self.over = False  # takes no calls any more; to be replaced
        self.refusal: RpcError | None = None
        self.pending: dict[int, Box] = {}
        self.sock = sock
        self._reading = Reading(sock)
        self._frames = Frames()
        self._unsent = b""  # the rest of a frame whose caller gave up
        self._ended = False  # every call without an answer was never begun
        self._lead = threading.Lock()
        self._writing = threading.Lock()
        self._entry = threading.Lock()  # guards `pending`: calls that come, answers, the end of the connection
        self.name = slot  # the worker's identity once it has said hello
        self.idempotent: frozenset[str] = frozenset()
        self._last = 0

    def begin(self, number: int, frame: bytes, deadline: float) -> Box:
        """Send a call and return where its answer will be, to be fetched by `answer` in any case.

        Raise `Moved`, or `Timeout` at the monotonic `deadline`, where it could not be sent.
        """
        box = Box(number)
        with self._entry:
            if self.over:
                raise Moved(self.name)
            self.pending[number] = box
            self._last = number
        try:
            self._send(frame, deadline)
        except RpcError:
            self._leave(number)
            raise
        return box

    def answer(self, box: Box, deadline: float) -> Message:
        """Wait for an answer and return it; raise `Moved`, `WorkerLost` or `Timeout` at the monotonic `deadline`."""
        try:
            return self._await_answer(box.notes, deadline)
        finally:
            self._leave(box.number)

    def glance(self) -> None:
        """Read what has come, if nobody else does; never blocks."""
        if self._lead.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._lead.release()

    def rank(self) -> tuple[int, int]:
        """Return what the next call prefers the smallest of: calls in flight, then how recently one was sent."""
        return len(self.pending), self._last

    def serves(self, worker: int | str | None) -> bool:
        """Tell whether a call for this worker, of `Outgoing`, may be sent here; of a slot only the number is told."""
        return worker is None or isinstance(worker, int) or f"{self.name}/".startswith(f"{worker}/")

    def retire(self) -> None:
        """Take no further call: the worker drains."""
        self.usable, self.over = False, True

    def close(self) -> None:
        """End the connection; callers that wait raise `WorkerLost`."""
        self._lose("the client was closed")  # first: whoever leads would take the end for the worker's
        with contextlib.suppress(OSError):  # it has ended already
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes whoever leads; closing alone would not
        self.discard()

    def discard(self) -> None:
        """Give the descriptor back if the connection is over and nobody uses it: the last who does comes here, too."""
        if self.over and not self.pending and self._lead.acquire(blocking=False):
            self.sock.close()
            self._lead.release()

    def _send(self, frame: bytes, deadline: float) -> None:
        if not self._writing.acquire(timeout=-1 if deadline == math.inf else left_until(deadline)):
            raise Timeout(f"{self.name}: the worker does not read")
        try:
            rest = len(self._unsent)
            data = self._unsent + frame
            sent = self._push(data, deadline)
            # Of a frame that has begun the rest must follow, or the worker could not read the next.
            self._unsent = data[sent:] if sent > rest else data[sent:rest]
        except OSError:
            # The worker never got all of this call. What it wrote before it went is still to be read.
            self.retire()
            raise Moved(self.name) from None
        finally:
            self._writing.release()
        if sent < len(data):
            raise Timeout(f"{self.name}: the worker does not read")

    def _push(self, data: bytes, deadline: float) -> int:
        """Write until all is written or the deadline passes; return how many bytes were."""
        sent = 0
        while sent < len(data):
            try:
                sent += self.sock.send(data[sent:] if sent else data)
            except BlockingIOError:
                seconds = left_until(deadline)
                if not seconds:
                    break
                self._await_room(seconds)
        return sent

    def _await_room(self, seconds: float) -> None:
        """Wait until the socket takes more; read meanwhile, since a worker that cannot write to us reads nothing."""
        leads = self._lead.acquire(blocking=False)
        try:
            until_ready([self.sock] if leads else [], [self.sock], seconds)
            if leads:
                self._read()
        finally:
            if leads:
                self._lead.release()
                self._appoint()

    def _await_answer(self, box: queue.SimpleQueue[Any], deadline: float) -> Message:
        while True:
            if self._lead.acquire(blocking=False):
                try:
                    found = self._read_for(box, deadline)
                finally:
                    self._lead.release()
            else:
                found = _take(box, left_until(deadline))
            if isinstance(found, dict):
                return found
            if found is None:
                raise Timeout(f"{self.name}: no answer within the deadline")
            if found is not _LEAD:
                raise found

    def _read_for(self, box: queue.SimpleQueue[Any], deadline: float) -> Any:
        """Lead until the box has an answer, and return it; None at the deadline."""
        while True:
            found = _take(box, 0)
            if found is _LEAD:
                continue
            if found is not None:
                return found
            seconds = left_until(deadline)
            if not seconds:
                return None
            self._reading.wait(seconds)
            self._read()

    def _read(self) -> None:
        """Deliver what has come, as the leader; never blocks nor raises."""
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("the worker is gone")
            return
        try:
            for message in self._frames.feed(data):
                self._take_in(message)
        except ProtocolError as error:
            self._lose(str(error))

    def _take_in(self, message: Message) -> None:
        match message:
            case {"type": "answer", "id": int(number)}:
                with self._entry:
                    box = self.pending.pop(number, None)
                if box is not None:  # else its caller has given up
                    box.notes.put(message)
            case {"type": "hello", "protocol": int(protocol), "worker": str(name), "idempotent": list(names)} if (
                protocol == PROTOCOL
            ):
                self.name, self.idempotent = name, frozenset(map(str, names))
                self.usable = not self.over
            case {"type": "hello"}:
                self._refuse(RpcError(f"{self.slot}: the worker speaks RPC protocol {message.get('protocol')!r:.20}"))
            case {"type": "refused"}:
                self._refuse(NotAllowed(f"{self.slot}: {message.get('message')!s:.500}"))
            case {"type": "bye"}:
                self.retire()
            case {"type": "end"}:
                self._ended = True
                self._lose("the worker has drained")

    def _refuse(self, refusal: RpcError) -> None:
        self.refusal = refusal
        self._lose(str(refusal))

    def _lose(self, why: str) -> None:
        with self._entry:
            self.retire()
            boxes = list(self.pending.values())
            self.pending.clear()
        for box in boxes:
            box.notes.put(Moved(self.name) if self._ended else WorkerLost(f"{self.name}: {why}; the call may have run"))

    def _leave(self, number: int) -> None:
        with self._entry:
            self.pending.pop(number, None)
            empty = not self.pending
        if not empty:
            self._appoint()
        else:
            self.discard()

    def _appoint(self) -> None:
        """Have another caller lead, if anybody waits and nobody leads."""
        with self._entry:
            box = next(iter(self.pending.values()), None)
        if box is not None and not self._lead.locked():
            box.notes.put(_LEAD)


def _take(box: queue.SimpleQueue[Any], seconds: float) -> Any:
    """Return what the box holds or gets within `seconds`; else None."""
    try:
        if not seconds:
            return box.get_nowait()
        return box.get(timeout=None if seconds == math.inf else seconds)
    except queue.Empty:
        return None
