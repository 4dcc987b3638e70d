"""A client's connection to one worker, shared by all of its callers, without a thread of its own.

Of the callers that wait for an answer one leads: it reads for all, and puts each answer into its caller's box. A
leader that has what it waited for appoints the next by a note in that one's box. So somebody reads exactly while
somebody waits, and the caller that waits alone reads its answer itself.
"""

from __future__ import annotations

import math
import queue
import threading
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import Moved, RpcError, Timeout
from forkd.rpc.transports.local.dialogue import Dialogue
from forkd.rpc.transports.local.waits import Reading, left_until, until_ready

if TYPE_CHECKING:
    import socket

    from forkd.rpc.wire import Message

_LEAD = "lead"  # the note by which a waiting caller is appointed


class Box:
    """Where a caller finds its answer, an error in its place, or the note that it is to lead."""

    __slots__ = ("notes", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.notes: queue.SimpleQueue[Any] = queue.SimpleQueue()


class Connection(Dialogue):
    """The stream of any number of threads; one of those that wait reads it for all."""

    def __init__(self, sock: socket.socket, slot: str) -> None:
        super().__init__(sock, slot)
        self._reading = Reading(sock)
        self._unsent = b""  # the rest of a frame whose caller gave up
        self._lead = threading.Lock()
        self._writing = threading.Lock()

    def begin(self, number: int, frame: bytes, deadline: float) -> Box:
        """Send a call and return where its answer will be, to be fetched by `answer` in any case.

        Raise `Moved`, or `Timeout` at the monotonic `deadline`, where it could not be sent.
        """
        box = Box(number)
        self.expect(number, box.notes.put)
        try:
            self._send(frame, deadline)
        except RpcError:
            self._leave(number)
            raise
        return box

    def answer(self, box: Box, deadline: float) -> Message:
        """Wait for an answer and return it; raise `Moved`, `WorkerLost` or `Timeout` at the monotonic `deadline`."""
        try:
            return self.checked(self._await_answer(box.notes, deadline))
        finally:
            self._leave(box.number)

    def glance(self) -> None:
        """As in `Dialogue`."""
        if self._lead.acquire(blocking=False):
            try:
                self.read()
            finally:
                self._lead.release()

    def discard(self) -> None:
        """As in `Dialogue`."""
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
                self.read()
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
            self.read()

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
            note = next(iter(self.pending.values()), None)
        if note is not None and not self._lead.locked():
            note(_LEAD)


def _take(box: queue.SimpleQueue[Any], seconds: float) -> Any:
    """Return what the box holds or gets within `seconds`; else None."""
    try:
        if not seconds:
            return box.get_nowait()
        return box.get(timeout=None if seconds == math.inf else seconds)
    except queue.Empty:
        return None
