"""A worker's numbers in shared memory: the worker writes, everyone else reads; nobody ever waits for the other.

One sealed memfd per worker, in words of 8 bytes: a header (magic and protocol, rows, heartbeat,
spare), then one row per OS thread (started, finished, errors, busy nanoseconds). Each thread writes
its own row only, since `+=` on a shared word loses counts; readers sum the rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from _thread import allocate_lock, get_native_id  # not `threading`: the launcher imports this module and stays small
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = 1
_MAGIC = int.from_bytes(b"forkd\0\0", "big") << 8 | PROTOCOL
_WORD = 8
_HEADER = 4  # words
_HEARTBEAT = 2  # index of a word
_ROW = 4  # words
_STARTED, _FINISHED, _ERRORS, _BUSY = range(_ROW)
_PRIVATE_ROWS = 126  # as many as fit a page
# Without these seals a worker could shrink its board and kill the launcher, its reader, by SIGBUS.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Counters(NamedTuple):
    """What a worker has done so far; `heartbeat` is a monotonic instant and `busy` a duration, in seconds."""

    heartbeat: float
    requests: int
    in_flight: int
    errors: int
    busy: float


def create(rows: int) -> int:
    """Make a board for at least that many threads; give its descriptor, a memfd that cannot change its size."""
    fd = os.memfd_create("forkd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = (_HEADER + rows * _ROW) * _WORD
    os.ftruncate(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


@contextlib.contextmanager
def created(rows: int) -> Iterator[int]:
    """Make a board, as `create` does, and close its descriptor at the end of the block."""
    fd = create(rows)
    try:
        yield fd
    finally:
        os.close(fd)


class Reader:
    """The launcher's view of a board: read-only, and believing nothing that is written there."""

    __slots__ = ("_map",)

    def __init__(self, fd: int) -> None:
        """Map the board; the descriptor stays the caller's."""
        self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)

    def read(self) -> Counters:
        """Sum the rows as they stand at this moment; any bytes at all give some counters."""
        with memoryview(self._map) as view, view.cast("Q") as words:
            heartbeat, numbers = words[_HEARTBEAT], words[_HEADER:].tolist()
        started, finished, errors, busy = (sum(numbers[word::_ROW]) for word in range(_ROW))
        return Counters(heartbeat / 1e9, finished, max(0, started - finished), errors, busy / 1e9)

    def close(self) -> None:
        """Unmap the board."""
        self._map.close()


class Row:
    """The counters of one OS thread, `at` a word of the board; only that thread calls it, so it takes no lock."""

    __slots__ = ("_words", "at")

    def __init__(self, words: memoryview, at: int) -> None:
        self._words = words
        self.at = at

    def started(self) -> None:
        """Count a request as begun."""
        self._words[self.at] += 1

    def finished(self, seconds: float, failed: bool) -> None:
        """Count a request as done, after so many seconds, and whether it failed."""
        words, at = self._words, self.at
        words[at + _BUSY] += int(seconds * 1e9)
        if failed:
            words[at + _ERRORS] += 1
        words[at + _FINISHED] += 1


class _SharedRow(Row):
    """The row of all threads that came when no other was free."""

    __slots__ = ("_lock",)

    def __init__(self, words: memoryview, at: int) -> None:
        super().__init__(words, at)
        self._lock = allocate_lock()

    def started(self) -> None:
        with self._lock:
            super().started()

    def finished(self, seconds: float, failed: bool) -> None:
        with self._lock:
            super().finished(seconds, failed)


class Board:
    """The worker's end: a row for each OS thread, the last row shared by those for whom none is left."""

    __slots__ = ("_free", "_lock", "_rows", "_shared", "_words")

    def __init__(self, fd: int | None = None) -> None:
        """Map the board `fd`, which is closed with that; None: a board in private memory, of no use to others."""
        if fd is None:
            view = memoryview(bytearray((_HEADER + _PRIVATE_ROWS * _ROW) * _WORD))
        else:
            view = memoryview(mmap.mmap(fd, 0))
            os.close(fd)
        self._words = view.cast("Q")
        rows = (len(self._words) - _HEADER) // _ROW
        self._words[0] = _MAGIC
        self._words[1] = rows
        self._free = [_HEADER + _ROW * row for row in reversed(range(rows - 1))]
        self._shared = _SharedRow(self._words, _HEADER + _ROW * (rows - 1))
        self._rows: dict[int, Row] = {}
        self._lock = allocate_lock()
        self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        self._words[_HEARTBEAT] = time.monotonic_ns()

    def row(self) -> Row:
        """Give the calling OS thread's row, the same at each call; green threads of one OS thread share one."""
        # Not a thread-local: eventlet makes those per green thread.
        return self._rows.get(get_native_id()) or self._claim(get_native_id())

    def _claim(self, thread: int) -> Row:
        with self._lock:
            if not self._free:
                self._take_back()
            if not self._free:
                return self._shared
            row = self._rows[thread] = Row(self._words, self._free.pop())
            return row

    def _take_back(self) -> None:
        """Free the rows of threads that have ended; their counts stay, for the next owner to add to."""
        alive = {int(task) for task in os.listdir("/proc/self/task")}
        for thread in self._rows.keys() - alive:
            self._free.append(self._rows.pop(thread).at)
