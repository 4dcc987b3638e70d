"""A loop's own thread as one that serves: what is quick is served sooner than another thread could be woken."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from resource import RUSAGE_THREAD, getrusage
from typing import TYPE_CHECKING, Generic, TypeVar

from forkd.errors import ForkdError
from forkd.threadgroup import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage

    from forkd.threadgroup import ThreadGroup

T = TypeVar("T")

_log = logging.getLogger("forkd.crews")

_QUICK = 0.001  # seconds of the processor that items may take on average
_RARELY = 4  # one item in so many may wait for something
_MOST_WAITS = 4.0  # beyond what is rare, until the lane is closed for them
_STALL = 0.005  # seconds after which an item that is still served holds up the others: twice that at most
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds for which the lane is closed, each time twice as long
_PROVEN = 2000  # quick items in a row after which a pause is a short one again


class Lane(Generic[T]):
    """Items that a loop's thread serves between two looks at its descriptors, as long as they are quick.

    To hand each item to another thread costs more than most of them do: two switches between threads, each with a
    change of hands of the interpreter's lock. But one that waits, or computes, would hold up all others. So while the
    lane is in use a guard looks at it: it gives the loop to a new thread when an item takes long, and leaves the old
    one to its item. Then, and when items are found to compute much, or to wait often (as the kernel counts a thread's
    voluntary switches), the lane is closed for a while, and the crew serves. The lane takes one of the threads that the
    group may have, like each of the crew. `occupied` is how many threads serve in it.
    """

    def __init__(self, group: ThreadGroup, serve: Callable[[T], None]) -> None:
        self._group = group
        self._serve = serve
        self._lock = threading.Lock()  # held for a few instructions; guards all below but what the loop alone uses
        self.occupied = 0
        self._waiting: deque[T] = deque()
        self._term = 0  # a thread of the loop is its thread as long as this is what it was when it began to serve
        self._serving = False
        self._progress = 0
        self._bell = group.event()  # which the guard waits for when there is nothing to guard
        self._closed_until = 0.0
        self._pause = _SHORTEST_PAUSE
        self._proven = 0
        self._waits = 0.0

    def start(self, divert: Callable[[T], object], replace: Callable[[], object]) -> None:
        """Begin to guard: `divert` takes an item for the crew, `replace` has a new thread run the loop."""
        self._divert = divert
        self._replace = replace
        self._group.add_loop(self._guard)

    def admit(self, item: T) -> bool:
        """Take an item, if the lane is open; in the loop."""
        if not self._waiting and not self._open():
            return False
        self._waiting.append(item)
        return True

    def serve(self) -> bool:
        """Serve who waits; return whether the calling thread is the loop's still."""
        if not self._waiting:
            return True
        term, count, before = self._term, 0, getrusage(RUSAGE_THREAD)
        self._occupy(1)
        try:
            while (item := self._next(term)) is not None:
                try:  # noqa: SIM105 -- `suppress` would cost every item a call
                    self._serve(item)
                except Stopped:  # whoever stops this thread means the item that it is at
                    pass
                count += 1
        finally:
            self._occupy(-1)
            self._group.slots.release()
        if self._term != term:
            return False
        self._judge(count, before, getrusage(RUSAGE_THREAD))
        return True

    def _open(self) -> bool:
        """Return whether it is open, and its thread's slot taken."""
        return time.monotonic() >= self._closed_until and self._group.slots.acquire(blocking=False)

    def _occupy(self, change: int) -> None:
        with self._lock:
            self.occupied += change

    def _next(self, term: int) -> T | None:
        """Return whom to serve next; None: nobody, or the loop has another thread by now."""
        with self._lock:
            if self._term != term:
                return None
            if not self._serving:
                self._serving = True
                self._bell.set()
            self._progress += 1
            if self._waiting:
                return self._waiting.popleft()
            self._serving = False
            return None

    def _judge(self, count: int, before: struct_rusage, after: struct_rusage) -> None:
        computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self._waits = max(0.0, self._waits + after.ru_nvcsw - before.ru_nvcsw - count / _RARELY)
        if computed > _QUICK * count or self._waits > _MOST_WAITS:
            self._close()
            return
        self._proven += count
        if self._proven > _PROVEN:
            self._pause = _SHORTEST_PAUSE

    def _close(self) -> None:
        self._closed_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._proven = 0
        self._waits = 0.0

    def _guard(self) -> None:
        while True:
            self._bell.wait()
            seen = -1
            while self._goes_on(seen):
                seen = self._progress
                self._group.sleep(_STALL)
                if seen == self._progress and self._serving:
                    self._take_over(seen)

    def _goes_on(self, seen: int) -> bool:
        """Return whether the lane is in use; if not, have the next use of it ring."""
        with self._lock:
            if self._serving or self._progress != seen:
                return True
            self._bell = self._group.event()
            return False

    def _take_over(self, seen: int) -> None:
        """Give the loop to another thread, and its requests to the crew, unless the one it is at has just ended."""
        with self._lock:
            if not self._serving or self._progress != seen:
                return
            self._term += 1
            self._serving = False
            self._close()
            left, self._waiting = self._waiting, deque[T]()
        while not self._replaced():  # the thread that has lost the loop ends with its request, so there will be one
            self._group.sleep(_STALL)
        for item in left:
            self._divert(item)

    def _replaced(self) -> bool:
        try:
            self._replace()
        except ForkdError as error:
            _log.warning("an item holds up the others: %s", error)
            return False
        return True
