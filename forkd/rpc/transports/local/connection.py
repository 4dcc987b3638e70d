"""A client's connection to one worker, shared by all of its callers, without a thread of its own.

Of the callers that wait for an answer one leads: it reads for all, and puts each answer into its caller's box. A
leader that has what it waited for appoints the next by a note in that one's box. So somebody reads exactly while
somebody waits, and the caller that waits alone reads its answer itself. Likewise one caller writes for all that come
while it does; when it gives up, another whose call is not sent goes on.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import Timeout
from forkd.rpc.transports.local.dialogue import INTERRUPTED, Dialogue
from forkd.rpc.transports.waits import Notes, Reading, is_native, left_until, until_ready

if TYPE_CHECKING:
    from forkd.rpc.transports.local.dialogue import Take
    from forkd.rpc.wire import Message

_LEAD, _WRITE = "lead", "write"  # notes by which a waiting caller is appointed
_RECEIVE = 5  # seconds that the kernel waits for an answer; whose deadline is nearer waits otherwise
_WRITER_PATIENCE = 0.1  # seconds after which who reads looks whether anybody writes, while the socket is full


class Box:
    """Where a caller finds its answer, an error in its place, or the note that it is to lead."""

    __slots__ = ("notes", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.notes = Notes()


class Connection(Dialogue):
    """The stream of any number of threads; one of those that wait reads it for all."""

    def __init__(self, sock: socket.socket, slot: str) -> None:
        super().__init__(sock, slot)
        self._reading = Reading(sock)
        self._waits = is_native()  # so does the socket, unless a flag says no; a green thread must not
        if self._waits:
            sock.setblocking(True)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _RECEIVE, 0))
        self._lead = threading.Lock()
        self._followers: dict[int, Take] = {}  # who waits while another leads; each step on it is the interpreter's
        self._writing = threading.Lock()

    def begin(self, number: int, frame: bytes, deadline: float) -> Box:
        """Send a call and return where its answer will be, to be fetched by `answer` in any case.

        Raise `Moved` where it could not be sent, `Timeout` at the monotonic `deadline`.
        """
        box = Box(number)
        self.expect(number, box.notes.put)
        self.unsent.add(number, frame)
        try:
            self._write(number, deadline)
        except BaseException:  # the deadline, or what a green thread or a signal's handler raised meanwhile
            self._leave(number)
            raise
        return box

    def answer(self, box: Box, deadline: float) -> Message:
        """Wait for an answer and return it; raise `Moved`, `WorkerLost` or `Timeout` at the monotonic `deadline`."""
        try:
            return self.checked(self._await_answer(box, deadline))
        finally:
            self._leave(box.number)

    def give_up(self, box: Box) -> None:
        """Want the answer to a call no more."""
        self._leave(box.number)

    def has_one_caller(self) -> bool:
        """Tell whether one thread alone waits for this worker."""
        return False

    def glance(self) -> None:
        """As in `Dialogue`."""
        if self._lead.acquire(blocking=False):
            try:
                self.read()
            finally:
                self._lead.release()
                self._hand_over()

    def discard(self) -> None:
        """As in `Dialogue`."""
        if self.over and not self.pending and self._lead.acquire(blocking=False):
            self.sock.close()
            self._lead.release()

    def _write(self, number: int, deadline: float) -> None:
        """Write all that waits, unless another thread is at it: that one looks again when it is done.

        Who has its answer, to the call of this number, leaves the rest to others.
        """
        while self.unsent and number in self.pending and self._writing.acquire(blocking=False):
            try:
                done = self._write_out(deadline, number)
            finally:
                self._writing.release()
            if not done:
                raise Timeout(f"{self.name}: the worker does not read")

    def _write_out(self, deadline: float, number: int) -> bool:
        """Return whether all is written that can be, or the call is answered; else the deadline has passed."""
        try:
            while not self._send() and number in self.pending:
                seconds = left_until(deadline)
                if not seconds:
                    return False
                self._await_room(seconds)
        except OSError:  # what the worker wrote before it went is still to be read
            self.give_back()
        return True

    def _send(self) -> bool:
        """As `write` of `Unsent`; what a signal's handler raises is the end, for nobody knows then what has left."""
        try:
            return self.unsent.write()
        except OSError:
            raise
        except BaseException:
            self.break_off(INTERRUPTED)
            raise

    def _await_room(self, seconds: float) -> None:
        """Wait until the socket takes more; read meanwhile, since a worker that cannot write to us reads nothing."""
        leads = self._lead.acquire(blocking=False)
        try:
            if leads:
                until_ready([self.sock], [self.sock], seconds)
            else:  # who leads may leave, and nobody else be there to follow
                until_ready([], [self.sock], min(seconds, _WRITER_PATIENCE))
            if leads:
                self.read()
        finally:
            if leads:
                self._lead.release()
                self._appoint()

    def _await_answer(self, box: Box, deadline: float) -> Message:
        while True:
            if self._lead.acquire(blocking=False):
                try:
                    found = self._read_for(box, deadline)
                finally:
                    self._lead.release()
            elif box.number not in self._followers:
                self._followers[box.number] = box.notes.put
                continue  # who led may just have found nobody to follow
            else:
                found = box.notes.take(left_until(deadline))
            if isinstance(found, dict):
                return found
            if found is None:
                raise Timeout(f"{self.name}: no answer within the deadline")
            if found is _WRITE:
                self._write(box.number, deadline)
            elif found is not _LEAD:
                raise found

    def _read_for(self, box: Box, deadline: float) -> Any:
        """Lead until the box has an answer, and return it; None at the deadline."""
        while True:
            found = box.notes.take(0)
            if found is _LEAD:
                continue
            if found is not None:
                return found
            seconds = left_until(deadline)
            if not seconds:
                return None
            if not self.unsent:
                self._receive(seconds)
            elif self._writing.acquire(blocking=False):  # whoever was to write it has given up
                try:
                    until_ready([self.sock], [self.sock], seconds)
                    self._write_out(0.0, box.number)
                    self.read()
                finally:
                    self._writing.release()
            else:  # of green threads no two may wait to write; and who does so may give up
                self._receive(min(seconds, _WRITER_PATIENCE))

    def _receive(self, seconds: float) -> None:
        """Wait for what comes, and read it.

        Threads compete for the interpreter after each system call, so where there are several it is one that waits as
        well. Not in the main thread: after a signal Python begins it anew, with all of its time.
        """
        is_alone = self.has_one_caller()
        if is_alone or seconds < _RECEIVE or not self._waits or threading.current_thread() is threading.main_thread():
            self._reading.wait(seconds, busy=is_alone)
            self.read()
        else:
            self.read(0)

    def _leave(self, number: int) -> None:
        self.pending.pop(number, None)
        self._followers.pop(number, None)
        self.unsent.remove(number)
        self._hand_over()

    def _hand_over(self) -> None:
        if self.pending:
            self._appoint()
        else:
            self.discard()

    def _appoint(self) -> None:
        """Have another caller write what is not sent and lead, if anybody waits and nobody is at it."""
        if self.unsent and not self._writing.locked():
            self._tell(next((number for number in self.unsent.numbers() if number in self._followers), 0), _WRITE)
        if not self._lead.locked():
            self._tell(next(iter(tuple(self._followers)), 0), _LEAD)

    def _tell(self, number: int, note: str) -> None:
        take = self._followers.get(number)
        if take is not None:
            take(note)
