"""Sends to many sockets by one system call, io_uring_enter(2); where a process may not have that, it sends nothing.

Each send by itself may wake a client, which takes the processor then, so that the two change places for every response.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.wsgi.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("forkd.wsgi")

MOST = 32  # sends at a time


class Burst:
    """Sends at once; for one thread at a time, of the process that has made it."""

    def __init__(self) -> None:
        """Say in the log, for those who look closely, if it will send nothing; not in a loop: that may wait."""
        self._process = os.getpid()
        self._ring: Ring | None = None
        try:
            self._ring = Ring(MOST)
        except OSError as error:
            _log.debug("responses leave one by one: io_uring: %s", error)

    def send(self, what: Sequence[tuple[int, bytes]]) -> dict[int, int]:
        """Write bytes to sockets, each by its descriptor, and wait for none; return what came of it, by place.

        That is how many bytes a socket has taken, or the negative number of an error. Of those that have no outcome,
        such as all beyond `MOST`, nothing has been sent.
        """
        ring = self._ring
        if ring is None or self._process != os.getpid():
            return {}
        first: int = ring.words[ring.sq_tail]
        number = first
        for fd, data in what[:MOST]:
            sqe = ring.sqes[number % MOST]
            sqe.fd, sqe.addr, sqe.len = fd, data, len(data)
            number += 1
        ring.words[ring.sq_tail] = number % 2**32
        done = 0
        with suppress(OSError):
            done = ring.enter(number - first)
        if done < number - first:
            self._ring = None  # what the kernel has not taken would be sent the next time
        return _outcomes(ring, first)


def _outcomes(ring: Ring, first: int) -> dict[int, int]:
    """Take off the ring what came of sends, of which the first had that number."""
    head: int = ring.words[ring.cq_head]
    tail: int = ring.words[ring.cq_tail]
    slots, results, length = ring.slots, ring.results, len(ring.results)
    found = {}
    for number in range(head, head + (tail - head) % 2**32):
        slot: int = slots[number % length]
        found[(slot - first) % MOST] = results[number % length]
    ring.words[ring.cq_head] = tail
    return found
