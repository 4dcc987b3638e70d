"""A worker's signs of life, and its word that it wants to be replaced; what follows from either is for the launcher."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from typing import TYPE_CHECKING

from forkd.errors import ChannelClosed, ProtocolError
from forkd.scoreboard import Board

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.channel import Channel
    from forkd.core.spec import RecycleSpec, ServiceSpec

_INTERVAL = 1.0  # seconds
_BEATS = 4  # at least, in the time after which silence is a hang
_SHARE = 0.001  # of its time that a worker may spend on reading its PSS: the kernel takes 10 ms for each GiB
_MIB = 1024 * 1024


class Vitals:
    """Beats on the scoreboard, and says once why the worker is to be replaced: its work, its memory, or its service."""

    def __init__(self, board: int, spec: ServiceSpec, to: Channel) -> None:
        """Take over the scoreboard's descriptor, and give the first sign of life."""
        self.interval = min(_INTERVAL, spec.hang_timeout / _BEATS or _INTERVAL)
        self.board = Board(board, self._countdown(spec.recycle))
        self._memory = spec.recycle.memory
        self._to = to
        self._reason: str | None = None
        self._serving = self._said = False
        self._weigh_at = 0.0

    def beat(self) -> None:
        """Give a sign of life; to be called every `interval` seconds once the worker is ready."""
        self.board.beat()
        self._serving = True
        if self._memory and self._reason is None:
            self._weigh()
        self._say()

    def ask(self, reason: str) -> None:
        """Ask to be replaced; the first reason counts."""
        self._reason = self._reason or reason
        self._say()

    def _countdown(self, recycle: RecycleSpec) -> Callable[[], None] | None:
        """Return what is to be called as each request ends, in whatever thread."""
        if not recycle.requests:
            return None
        sooner = recycle.requests * recycle.jitter * random.random()  # noqa: S311 -- no secret
        most = max(1, recycle.requests - int(sooner))
        left = itertools.count(most - 1, -1)  # one step of which no other thread interrupts

        def count() -> None:
            if next(left) == 0:
                self.ask(f"served {most:,} requests")

        return count

    def _weigh(self) -> None:
        """Compare the memory with what is allowed, first as RSS, which is never less than PSS and costs nothing."""
        now = time.monotonic()
        if now < self._weigh_at:
            return
        with contextlib.suppress(OSError):  # no descriptor is left: it is looked at again
            if _rss() > self._memory and (used := _pss()) > self._memory:
                self.ask(f"uses {used // _MIB} MiB, more than {self._memory // _MIB} MiB")
        self._weigh_at = now + (time.monotonic() - now) / _SHARE

    def _say(self) -> None:
        """Tell the launcher, which has no use for it before the worker is ready."""
        if self._reason is None or self._said or not self._serving:
            return
        self._said = True
        with contextlib.suppress(ChannelClosed, ProtocolError):  # the launcher may be what has ended
            self._to.send({"type": "recycle", "reason": self._reason})


def _rss() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _pss() -> int:
    """Return the bytes of memory that are this process's, of those that it shares its part."""
    with open("/proc/self/smaps_rollup", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
