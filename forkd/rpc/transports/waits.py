"""Waits for sockets and for notes, in whatever thread asks, native or green; no thread group, no eventlet."""

from __future__ import annotations

import math
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from forkd.busy_poll import BusyPoll

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

_LONGEST = 3600.0  # seconds; poll(2) takes no more than 24 days


def left_until(deadline: float) -> float:
    """Return the seconds until a monotonic instant, never negative."""
    return max(0.0, deadline - time.monotonic())


def is_native() -> bool:
    """Tell whether threads are native here: eventlet, where it has patched a process, leaves a green `select` alone."""
    return hasattr(select, "poll")


class Reading:
    """Waits for one socket, in one thread at a time; cheaper than `until_ready`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll() if is_native() else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)
            self._busy_poll = BusyPoll(self._poll.poll)

    def wait(self, seconds: float, *, busy: bool = False) -> None:
        """As `until_ready`; `busy` is by busy polling, for who keeps no other thread from work."""
        if self._poll is None:
            until_ready([self._sock], [], seconds)
        else:
            (self._busy_poll if busy else self._poll.poll)(math.ceil(min(seconds, _LONGEST) * 1000))


def until_ready(readers: Sequence[socket.socket], writers: Sequence[socket.socket], seconds: float) -> None:
    """Return when a socket can be read or written or has failed, or after `seconds`; maybe earlier for no reason."""
    seconds = min(seconds, _LONGEST)
    if not is_native():
        select.select(readers, writers, [], seconds)
        return
    poll = select.poll()
    try:
        for sock in readers:
            poll.register(sock, select.POLLIN)
        for sock in writers:
            poll.register(sock, select.POLLOUT | (select.POLLIN if sock in readers else 0))
    except ValueError:  # another thread has closed it just now
        return
    poll.poll(math.ceil(seconds * 1000))


class Notes:
    """What others leave for one thread, native or green.

    As `queue.SimpleQueue`; but that of Python before 3.13 waits for ever where a signal's handler outlasts the timeout.
    """

    __slots__ = ("_bell", "_notes")

    def __init__(self) -> None:
        self._notes: deque[Any] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, note: Any) -> None:
        """Leave a note; never blocks, and may be called by a signal's handler."""
        self._notes.append(note)
        try:  # noqa: SIM105 -- what is shorter takes longer, and every call comes here
            self._bell.release()
        except RuntimeError:  # it rings already
            pass

    def take(self, seconds: float) -> Any:
        """Return the next note, waiting for one for so long; None where there is none."""
        if not self._notes and seconds:
            until = time.monotonic() + seconds
            while not self._notes and self._bell.acquire(timeout=min(left_until(until), threading.TIMEOUT_MAX)):
                pass  # it may have rung for a note that is taken
        return self._notes.popleft() if self._notes else None
