"""A connection to a broker that the threads of a process share, native or green: one that waits reads for all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from forkd.rpc.transports.amqp.crowd import Crowd
from forkd.rpc.transports.amqp.dialogue import Dialogue
from forkd.rpc.transports.waits import Reading, left_until, until_ready

if TYPE_CHECKING:
    from forkd.rpc.transports.amqp.link import Link
    from forkd.rpc.transports.amqp.notes import Box

_FAREWELL = 1.0  # seconds for the broker to confirm that we go
_WRITER_PATIENCE = 0.1  # seconds after which who reads looks whether anybody waits for room, while there is none


class Connection:
    """A `dialogue`, and who waits for what comes of it."""

    def __init__(self, link: Link, heartbeat: int) -> None:
        """As `Dialogue`."""
        self._crowd = Crowd(self._attend, link.close)
        self.dialogue = Dialogue(link, heartbeat, self._crowd)
        self._link = link
        self._reading = Reading(link.socket)
        self._room = threading.Lock()  # of the one that waits for room to write: of green threads no two may

    def wait(self, box: Box, deadline: float) -> Any:
        """Return the next note for a box that is in; None at the monotonic `deadline`."""
        while self._link.is_full and left_until(deadline) and not self.dialogue.over:
            self._await_room(left_until(deadline))
        return self._crowd.wait(box, deadline)

    def glance(self) -> None:
        """Take in what has come, if nobody else does, and give the descriptor back if it is over and nobody waits."""
        self._crowd.attend_if_free(0)
        self._crowd.close_if_over()

    def close(self) -> None:
        """End the connection; callers that wait raise `WorkerLost`."""
        self.dialogue.farewell("the client was closed")
        self._crowd.attend_if_free(_FAREWELL)
        self._link.shut()  # wakes whoever leads
        self.glance()

    def forget(self) -> None:
        """Close a parent's descriptor in its fork: no word to the broker, no lock, which a fork may have cut off."""
        self._link.forget()

    def _await_room(self, seconds: float) -> None:
        """Wait until the socket takes more, and write; read meanwhile, if nobody does."""
        if self._crowd.attend_if_free(seconds):
            return
        if self._room.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            try:
                if self._link.is_full:
                    until_ready([], [self._link.socket], seconds)
                    self._link.push()
            finally:
                self._room.release()

    def _attend(self, seconds: float) -> None:
        """Read what comes within `seconds`, as the leader; never raises."""
        link = self._link
        if link.socket.fileno() < 0:
            return
        patience = min(seconds, left_until(self.dialogue.due))
        if link.is_full and self._room.acquire(blocking=False):
            try:
                until_ready([link.socket], [link.socket], patience)
                link.push()
            finally:
                self._room.release()
        elif seconds:
            self._reading.wait(min(patience, _WRITER_PATIENCE) if link.is_full else patience)
        self.dialogue.listen()
        if seconds:
            self.dialogue.mind_silence()
