"""A worker's numbers in shared memory: the worker writes, everyone else reads; nobody ever waits for the other.

One sealed memfd per worker, in words of 8 bytes: a header (magic and protocol, rows, heartbeat, words
of records, spare), then one row per OS thread (started, finished, errors, busy nanoseconds), then the
records of what is counted by name (`tallies`). Each thread writes its own row only, since `+=` on a
shared word loses counts, and readers sum the rows; a record is written seldom, and has a lock. The last
TAIL bytes are text: stacks that the worker has dumped and not sent, after which there are zeros.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from _thread import allocate_lock, get_native_id  # not `threading`: the launcher imports this module and stays small
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from forkd import tallies
from forkd.tallies import KINDS, OTHER, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from forkd.tallies import Kind, Name

PROTOCOL = 1
TAIL = 48 * 1024  # bytes, whole pages; with what JSON adds to them they fit into one message of a channel
_MAGIC = int.from_bytes(b"forkd\0\0", "big") << 8 | PROTOCOL
_WORD = 8
_HEADER = 8  # words
_ROWS, _HEARTBEAT, _RECORDS = 1, 2, 3  # indices of words
_ROW = 4  # words
_STARTED, _FINISHED, _ERRORS, _BUSY = range(_ROW)
_PRIVATE_ROWS = 126  # as many as fit a page
_RESERVE = sum(kind.width for kind in KINDS.values())  # words that each kind's `OTHER` can still have at last
# Without these seals a worker could shrink its board and kill the launcher, its reader, by SIGBUS.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Counters(NamedTuple):
    """What a worker has done so far; `heartbeat` is a monotonic instant and `busy` a duration, in seconds."""

    heartbeat: float
    requests: int
    in_flight: int
    errors: int
    busy: float
    tallies: tuple[Tally, ...] = ()


NOTHING = Counters(0.0, 0, 0, 0, 0.0)


def total(found: Sequence[Counters]) -> Counters:
    """Add up what workers have done; the heartbeat is the last one."""
    return Counters(
        max(one.heartbeat for one in found),
        sum(one.requests for one in found),
        sum(one.in_flight for one in found),
        sum(one.errors for one in found),
        sum(one.busy for one in found),
        tallies.merged(tally for one in found for tally in one.tallies),
    )


def create(rows: int) -> int:
    """Make a board for at least that many threads; give its descriptor, a memfd that cannot change its size.

    Of the tail no page is taken before something is written there.
    """
    fd = os.memfd_create("forkd-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    size = _size(rows)
    os.ftruncate(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE + TAIL)
    os.pwrite(fd, _header(rows), 0)
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
    """The launcher's view of a board: read-only, and believing nothing that is written there but how it was made."""

    __slots__ = ("_map", "_records", "_rows", "_taken")

    def __init__(self, fd: int) -> None:
        """Map the board, which no worker has had yet; the descriptor stays the caller's."""
        self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        self._taken = b""
        with memoryview(self._map) as view, view.cast("Q") as words:
            self._rows = slice(_HEADER, _HEADER + words[_ROWS] * _ROW)
            self._records = slice(self._rows.stop, self._rows.stop + words[_RECORDS])

    def read(self, names: Iterable[Name] = ()) -> Counters:
        """Sum the rows as they stand at this moment, and take the records by their names; any bytes give some."""
        with memoryview(self._map) as view, view.cast("Q") as words:
            heartbeat, numbers, records = words[_HEARTBEAT], words[self._rows].tolist(), words[self._records].tolist()
        started, finished, errors, busy = (sum(numbers[word::_ROW]) for word in range(_ROW))
        values = iter(records)
        named = tallies.merged(Tally(*name, tuple(islice(values, KINDS[name[0]].width))) for name in names)
        return Counters(heartbeat / 1e9, finished, max(0, started - finished), errors, busy / 1e9, named)

    def heartbeat(self) -> float:
        """Return the monotonic instant of the last sign of life, in seconds."""
        (nanoseconds,) = struct.unpack_from("=Q", self._map, _HEARTBEAT * _WORD)
        return float(nanoseconds / 1e9)

    def take_dumped(self) -> str:
        """Return the stacks in the tail, but for those that an earlier call has returned; else an empty text."""
        if not any(self._map[-TAIL : _WORD - TAIL]):
            self._taken = b""
            return ""  # without a look at the rest: a page that is read takes memory from then on
        written = self._map[-TAIL:].rstrip(b"\0")
        new, self._taken = written.removeprefix(self._taken), written
        return new.replace(b"\0", b"").decode(errors="replace")

    def note_emptied(self) -> None:
        """Note that the worker has emptied the tail: what stands there from now on is new, even if it is the same."""
        self._taken = b""

    def close(self) -> None:
        """Unmap the board."""
        self._map.close()


class Row:
    """The counters of one OS thread, `at` a word of the board; only that thread calls it, so it takes no lock."""

    __slots__ = ("_on_finish", "_words", "at")

    def __init__(self, words: memoryview, at: int, on_finish: Callable[[], object] | None) -> None:
        self._words = words
        self.at = at
        self._on_finish = on_finish

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
        if self._on_finish is not None:
            self._on_finish()


class _SharedRow(Row):
    """The row of all threads that came when no other was free."""

    __slots__ = ("_lock",)

    def __init__(self, words: memoryview, at: int, on_finish: Callable[[], object] | None) -> None:
        super().__init__(words, at, on_finish)
        self._lock = allocate_lock()

    def started(self) -> None:
        with self._lock:
            super().started()

    def finished(self, seconds: float, failed: bool) -> None:
        with self._lock:
            super().finished(seconds, failed)


class Record:
    """The values of one name; any thread may write them."""

    __slots__ = ("_at", "_kind", "_lock", "_words")

    def __init__(self, words: memoryview, at: int, kind: Kind) -> None:
        self._words = words
        self._at = at
        self._kind = kind
        self._lock = allocate_lock()

    def add(self, what: str, by: int = 1) -> None:
        """Count one of the kind's `counts`."""
        with self._lock:
            self._words[self._at + self._kind.counts.index(what)] += by

    def note(self, *latest: float) -> None:
        """Write down what is `latest`, in seconds."""
        with self._lock:
            for at, value in enumerate(latest, self._at + len(self._kind.counts)):
                self._words[at] = int(value * 1e9)


def loose(kind: str) -> Record:
    """Return a record that stands on no board."""
    return Record(memoryview(bytearray(KINDS[kind].width * _WORD)).cast("Q"), 0, KINDS[kind])


class Board:
    """The worker's end: a row for each OS thread, the last row shared by those for whom none is left, and records."""

    __slots__ = ("_free", "_lock", "_on_finish", "_records", "_room", "_rows", "_shared", "_words")

    def __init__(self, fd: int | None = None, on_finish: Callable[[], object] | None = None) -> None:
        """Map the board `fd`, which is closed with that; None: a board in private memory, of no use to others.

        `on_finish` is called by the thread that counts a request as done, each time.
        """
        if fd is None:
            view = memoryview(bytearray(_size(_PRIVATE_ROWS)))
            view[: _HEADER * _WORD] = _header(_PRIVATE_ROWS)
        else:
            view = memoryview(mmap.mmap(fd, 0))
            os.close(fd)
        self._words = view.cast("Q")
        self._on_finish = on_finish
        rows = self._words[_ROWS]
        after = _HEADER + _ROW * rows
        self._free = [_HEADER + _ROW * row for row in reversed(range(rows - 1))]
        self._shared = _SharedRow(self._words, after - _ROW, on_finish)
        self._rows: dict[int, Row] = {}
        self._room = range(after, after + self._words[_RECORDS])
        self._records: dict[Name, Record] = {}
        self._lock = allocate_lock()
        self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        self._words[_HEARTBEAT] = time.monotonic_ns()

    def row(self) -> Row:
        """Give the calling OS thread's row, the same at each call; green threads of one OS thread share one."""
        # Not a thread-local: eventlet makes those per green thread.
        return self._rows.get(get_native_id()) or self._claim(get_native_id())

    def record(self, kind: str, name: str) -> Record:
        """Give the record of one name; where there is no room for it, that of all others of its kind."""
        key, width = (kind, tallies.shortened(name)), KINDS[kind].width
        with self._lock:
            if key not in self._records and len(self._room) < width + _RESERVE:
                key = kind, OTHER
            if key not in self._records:
                self._records[key] = Record(self._words, self._room.start, KINDS[kind])
                self._room = self._room[width:]
            return self._records[key]

    def names(self) -> list[Name]:
        """Return the names of the records, in their order: a reader needs them, and the board has none."""
        return list(self._records)

    def _claim(self, thread: int) -> Row:
        with self._lock:
            if not self._free:
                self._take_back()
            if not self._free:
                return self._shared
            row = self._rows[thread] = Row(self._words, self._free.pop(), self._on_finish)
            return row

    def _take_back(self) -> None:
        """Free the rows of threads that have ended; their counts stay, for the next owner to add to."""
        alive = {int(task) for task in os.listdir("/proc/self/task")}
        for thread in self._rows.keys() - alive:
            self._free.append(self._rows.pop(thread).at)


def _size(rows: int) -> int:
    return (_HEADER + rows * _ROW + tallies.SIZE) * _WORD


def _header(rows: int) -> bytes:
    return struct.pack(f"={_HEADER}Q", _MAGIC, rows, 0, tallies.SIZE, *bytes(_HEADER - 4))
