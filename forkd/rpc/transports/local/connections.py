"""A client's connections, one per worker slot of the topic, and which of them a call takes.

The directory is listed again when it has changed, when a connection is over and when none is usable; never by a timer
while calls have a worker to go to. A slot's socket accepts also while it has no worker: only a hello makes a
connection usable.
"""

from __future__ import annotations

import math
import os
import re
import socket
import threading
import time

from forkd.rpc.errors import NoSuchTopic, NoSuchWorker, NotAllowed, Timeout, WorkerLost
from forkd.rpc.topics import SUFFIX
from forkd.rpc.transports.local.connection import Connection
from forkd.rpc.transports.local.waits import left_until, until_ready

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5  # seconds between two looks for a worker, where there is none
_GLANCE = 0.01  # seconds between two looks at the directory, at least
_PATIENCE = 1.0  # seconds for those that were just connected to, if they are ready, to say so
_SLOT = re.compile(r"[0-9]{1,9}" + re.escape(SUFFIX))
_TICK = 50_000_000  # ns; a directory that changed so recently may change again under the same time stamp


class Connections:
    """The connections of one process to one topic."""

    def __init__(self, topic: str, directory: str) -> None:
        self._topic = topic
        self._directory = directory
        self._connections: list[Connection] = []  # replaced, never changed: it is read without a lock
        self._search = threading.Lock()  # of the one thread that looks for workers
        self._listed: int | None = None  # the directory's time stamp at the last listing; None: list again
        self._settled_until = 0.0  # the directory has just been looked at
        self._unreachable = False  # a slot had nobody who listens
        self.closed = False

    def path(self, slot: int) -> str:
        """Return where the socket of a slot is."""
        return f"{self._directory}/{slot}{SUFFIX}"

    def choose(self, deadline: float, worker: int | str | None) -> Connection:
        """Return the connection that a call for this worker, of `Outgoing`, is to be sent on.

        Raise `NoSuchTopic` or `NoSuchWorker` at once, `Timeout` at the monotonic `deadline`.
        """
        pause = _FIRST_PAUSE
        while True:
            best = self.best(worker)
            if best is not None and self._is_settled():
                return best
            if not self._acquire_search(deadline, wait=best is None):
                if best is not None:
                    return best
                raise Timeout(f"{self._topic}: no worker was found within the deadline")
            try:
                self._refresh(worker)
                best = self.best(worker)
                if best is not None:
                    return best
                self._await_hello(min(pause, left_until(deadline)))
            finally:
                self._search.release()
            if not left_until(deadline):
                raise Timeout(f"{self._topic}: no worker was ready within the deadline")
            pause = min(2 * pause, _LONGEST_PAUSE)

    def best(self, worker: int | str | None) -> Connection | None:
        """Return the usable connection with the fewest calls in flight, the least recently used of equals."""
        if worker is None:
            usable = [connection for connection in self._connections if connection.usable]
        else:
            slot = self.path(_slot(worker))
            usable = [each for each in self._connections if each.usable and each.slot == slot and each.serves(worker)]
        return min(usable, key=Connection.rank, default=None)

    def slots(self, deadline: float) -> list[int]:
        """Return the slots of the topic, connected to; those who are ready have a moment to say so."""
        if not self._acquire_search(deadline, wait=True):
            raise Timeout(f"{self._topic}: no worker was found within the deadline")
        try:
            slots = self._refresh(None)
            patience = min(time.monotonic() + _PATIENCE, deadline)
            while left_until(patience) and not all(each.usable or each.over for each in self._connections):
                self._await_hello(left_until(patience))
        finally:
            self._search.release()
        return [int(_name(slot)) for slot in slots]

    def close(self) -> None:
        """Close every connection; callers that wait raise `WorkerLost`."""
        self.closed = True
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def forget(self) -> None:
        """Close a parent's descriptors in its fork: no word to the workers, no lock, which a fork may have cut off."""
        for connection in self._connections:
            connection.sock.close()

    def _acquire_search(self, deadline: float, *, wait: bool) -> bool:
        if not wait:
            return self._search.acquire(blocking=False)
        return self._search.acquire(timeout=-1 if deadline == math.inf else left_until(deadline))

    def _is_settled(self) -> bool:
        """Tell whether every slot has a usable connection and no slot has come or gone."""
        if self._unreachable or not all(connection.usable for connection in self._connections):
            return False
        now = time.monotonic()
        if now < self._settled_until:
            return True
        if self._listed is None or self._listed != _stamp(self._directory):
            return False
        self._settled_until = now + _GLANCE
        return True

    def _refresh(self, worker: int | str | None) -> list[str]:
        """Bring the connections up to date with the slots and return these; never blocks.

        Raise what no waiting would mend, for a call for this worker.
        """
        if self.closed:
            raise WorkerLost(f"{self._topic}: the client was closed")
        for connection in self._connections:
            if not connection.usable and not connection.over:
                connection.glance()
        kept = [connection for connection in self._connections if not connection.over]
        over = [connection for connection in self._connections if connection.over]
        self._connections = kept
        for connection in over:
            connection.discard()
            if connection.refusal is not None:
                raise connection.refusal
        taken = {connection.slot for connection in kept}
        slots = self._slots()
        if not slots and not kept:
            raise NoSuchTopic(f"nobody serves the topic {self._topic!r}: no worker's socket is in {self._directory}")
        fresh = [_connect(self._topic, slot) for slot in slots if slot not in taken]
        self._unreachable = None in fresh
        self._connections = kept + [connection for connection in fresh if connection is not None]
        if worker is not None:
            self._check_worker(worker, slots)
        return slots

    def _check_worker(self, worker: int | str, slots: list[str]) -> None:
        slot = self.path(_slot(worker))
        others = [each.name for each in self._connections if each.slot == slot and each.usable]
        if slot not in slots:
            raise NoSuchWorker(f"{self._topic}: no worker {worker!r}; the slots are {', '.join(map(_name, slots))}")
        if others and self.best(worker) is None:
            raise NoSuchWorker(f"{self._topic}: no worker {worker!r}; in its slot is {others[0]}")

    def _slots(self) -> list[str]:
        """Return the paths of the sockets; none where there is no directory."""
        try:
            stamp = _stamp(self._directory)
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        except PermissionError:
            raise NotAllowed(f"{self._topic}: {self._directory} may not be read by this user") from None
        settled = stamp is not None and time.time_ns() - stamp > _TICK
        self._listed = stamp if settled else None
        return sorted(f"{self._directory}/{name}" for name in names if _SLOT.fullmatch(name))

    def _await_hello(self, seconds: float) -> None:
        waiting = [connection.sock for connection in self._connections if not connection.over]
        until_ready(waiting, [], seconds)
        for connection in self._connections:
            connection.glance()


def _connect(topic: str, slot: str) -> Connection | None:
    """Return a connection without a hello yet; None while nobody listens, or too many are in the queue."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(slot)
    except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
        sock.close()
        return None
    except PermissionError:
        sock.close()
        raise NotAllowed(f"{topic}: this user may not connect to {slot}") from None
    except OSError:
        sock.close()
        raise
    return Connection(sock, slot)


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
