"""The slots of a topic and a client's connections to their workers: which there are, and which of them a call takes.

The directory is listed again when it has changed, when a connection is over and when none is usable; never by a timer
while calls have a worker to go to. A slot's socket accepts also while it has no worker: only a hello makes a
connection usable. Nothing here waits: for a hello to come, for a slot to be there, is how threads and loops differ.
"""

from __future__ import annotations

import os
import re
import socket
import time
from operator import methodcaller
from typing import TYPE_CHECKING, Generic, TypeVar

from forkd.rpc.errors import NoSuchTopic, NoSuchWorker, NotAllowed, WorkerLost
from forkd.rpc.topics import SUFFIX
from forkd.rpc.transports.local.dialogue import Dialogue

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5  # seconds between two looks for a worker, where there is none
_GLANCE = 0.01  # seconds between two looks at the directory, at least
_SLOT = re.compile(r"[0-9]{1,9}" + re.escape(SUFFIX))
_TICK = 50_000_000  # ns; a directory that changed so recently may change again under the same time stamp

C = TypeVar("C", bound=Dialogue)


class Slots(Generic[C]):
    """The connections of one process, or of one loop, to one topic; `make` turns a fresh socket into one."""

    def __init__(self, topic: str, directory: str, make: Callable[[socket.socket, str], C]) -> None:
        self.topic = topic
        self.closed = False
        self._directory = directory
        self._make = make
        self._connections: list[C] = []  # replaced, never changed: it is read without a lock
        self._listed: int | None = None  # the directory's time stamp at the last listing; None: list again
        self._settled_until = 0.0  # the directory has just been looked at
        self._unreachable = False  # a slot had nobody who listens

    def path(self, slot: int) -> str:
        """Return where the socket of a slot is."""
        return f"{self._directory}/{slot}{SUFFIX}"

    def best(self, worker: int | str | None) -> C | None:
        """Return the usable connection with the fewest calls in flight, the least recently used of equals."""
        if worker is None:
            usable = [connection for connection in self._connections if connection.usable]
        else:
            slot = self.path(_slot(worker))
            usable = [each for each in self._connections if each.usable and each.slot == slot and each.serves(worker)]
        return min(usable, key=methodcaller("rank"), default=None)

    def is_settled(self) -> bool:
        """Tell whether every slot has a usable connection and no slot has come or gone."""
        if self._unreachable:
            return False
        for connection in self._connections:
            if not connection.usable:
                return False
        now = time.monotonic()
        if now < self._settled_until:
            return True
        if self._listed is None or self._listed != _stamp(self._directory):
            return False
        self._settled_until = now + _GLANCE
        return True

    def refresh(self, worker: int | str | None) -> list[int]:
        """Bring the connections up to date with the slots and return these; never blocks.

        Raise what no waiting would mend, for a call for this worker.
        """
        self._check_open()
        for connection in self._connections:
            if not connection.usable and not connection.over:
                connection.glance()
        kept = [connection for connection in self._connections if not connection.over]
        over = [connection for connection in self._connections if connection.over]
        self._connections = kept
        for connection in over:
            connection.discard()
            if connection.refusal is not None and self.best(worker) is None:
                raise connection.refusal
        taken = {connection.slot for connection in kept}
        slots = self._list()
        if not slots and not kept:
            raise NoSuchTopic(f"nobody serves the topic {self.topic!r}: no worker's socket is in {self._directory}")
        fresh = [self._connect(slot) for slot in slots if slot not in taken]
        self._unreachable = None in fresh
        self._connections = kept + [connection for connection in fresh if connection is not None]
        self._check_open()
        if worker is not None:
            self._check_worker(worker, slots)
        return [int(_name(slot)) for slot in slots]

    def pause(self, looks: int) -> float:
        """Return for how many seconds to wait for a hello, after so many looks, until the slots are looked at again.

        A worker that gets ready says so on a connection that waits for it. Only who listens again at a socket where
        nobody did, or that had no room, is found by another look; and so is, though seldom awaited, a slot that is new.
        """
        return min(_FIRST_PAUSE * 2 ** min(looks, 10), _LONGEST_PAUSE) if self._unreachable else _LONGEST_PAUSE

    def may_repeat(self, method: str, connection: Dialogue, losses: int) -> bool:
        """Tell whether a call whose worker was lost, so many by now, is sent to another.

        An idempotent one is, once: a call that kills whoever begins it must not kill all.
        """
        return losses == 1 and method in connection.idempotent and not self.closed

    def close(self) -> None:
        """Close every connection; callers that wait raise `WorkerLost`."""
        self.closed = True
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def forget(self) -> None:
        """Close a parent's descriptors in its fork: no word to the workers, no lock, which a fork may have cut off."""
        for connection in self._connections:
            connection.forget()

    def _check_open(self) -> None:
        if self.closed:
            self.close()  # by another thread, maybe, which has not seen what was opened meanwhile
            raise WorkerLost(f"{self.topic}: the client was closed")

    def _check_worker(self, worker: int | str, slots: list[str]) -> None:
        slot = self.path(_slot(worker))
        others = [each.name for each in self._connections if each.slot == slot and each.usable]
        if slot not in slots:
            raise NoSuchWorker(f"{self.topic}: no worker {worker!r}; the slots are {', '.join(map(_name, slots))}")
        if others and self.best(worker) is None:
            raise NoSuchWorker(f"{self.topic}: no worker {worker!r}; in its slot is {others[0]}")

    def _list(self) -> list[str]:
        """Return the paths of the sockets; none where there is no directory."""
        try:
            stamp = _stamp(self._directory)
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        except PermissionError:
            raise NotAllowed(f"{self.topic}: {self._directory} may not be read by this user") from None
        settled = stamp is not None and time.time_ns() - stamp > _TICK
        self._listed = stamp if settled else None
        return sorted(f"{self._directory}/{name}" for name in names if _SLOT.fullmatch(name))

    def _connect(self, slot: str) -> C | None:
        """Return a connection without a hello yet; None while nobody listens, or too many are in the queue."""
        try:
            sock = connect(slot)
        except PermissionError:
            raise NotAllowed(f"{self.topic}: this user may not connect to {slot}") from None
        return None if sock is None else self._make(sock, slot)


def connect(slot: str) -> socket.socket | None:
    """Return a connected socket that never blocks; None while nobody listens, or too many are in the queue."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(slot)
    except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock


def _slot(worker: int | str) -> int:
    """Return the slot of what `Outgoing` has for a worker."""
    return worker if isinstance(worker, int) else int(worker.split("/")[2])


def _name(slot: str) -> str:
    return os.path.basename(slot).removesuffix(SUFFIX)


def _stamp(directory: str) -> int | None:
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return None
