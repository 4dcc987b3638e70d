"""A loop's own thread as one that serves: what is quick is served sooner than another thread could be woken."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from resource import RUSAGE_THREAD, getrusage
from typing import TYPE_CHECKING, Generic, TypeVar

from forkd.crews.gate import Gate
from forkd.errors import ForkdError
from forkd.threadgroup import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup

T = TypeVar("T")

_log = logging.getLogger("forkd.crews")

_STALL = 0.004  # seconds after which an item that is still served may hold up the others: twice that at most
_GRACE = 0.001  # seconds between looks at whether it does


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
        self._native_id = 0  # of the thread that serves, as the kernel has it
        self._progress = 0
        self._bell = group.event()  # which the guard waits for when there is nothing to guard
        self._gate = Gate()

    def start(self, divert: Callable[[T], object], replace: Callable[[], object]) -> None:
        """Begin to guard: `divert` takes an item for the crew, `replace` has a new thread run the loop."""
        self._divert = divert
        self._replace = replace
        self._group.add_loop(self._guard)

    @property
    def waiting(self) -> int:
        """How many items wait; in the loop."""
        return len(self._waiting)

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
        self._native_id = threading.get_native_id()
        term, count, before = self._term, 0, getrusage(RUSAGE_THREAD)
        self._occupy(1)
        try:
            while (item := self._next(term)) is not None:
                try:
                    self._serve(item)
                except Stopped:  # whoever stops this thread means the item that it is at
                    pass
                except BaseException:  # noqa: BLE001 -- such as an application's KeyboardInterrupt: the others go on
                    _log.exception("an item failed")
                count += 1
        finally:
            self._occupy(-1)
            self._group.slots.release()
        if self._term != term:
            return False
        self._gate.judge(count, before, getrusage(RUSAGE_THREAD))
        return True

    def _open(self) -> bool:
        """Return whether it is open, and its thread's slot taken."""
        return self._gate.is_open() and self._group.slots.acquire(blocking=False)

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

    def _guard(self) -> None:
        while True:
            self._bell.wait()
            seen = -1
            while self._goes_on(seen):
                seen = self._progress
                time.sleep(_STALL)  # the group's own costs more, at whose end one that is stopped need not hear of it
                if self._holds_up(seen):
                    self._take_over(seen)

    def _holds_up(self, seen: int) -> bool:
        """Return whether the item that was being served waits for something, or computes and computes.

        On a busy machine it may be no more than that its thread wants a processor, or the interpreter's lock, which it
        gets while the guard sleeps. Another thread would get neither sooner.
        """
        first = None
        while self._is_at(seen):
            now = _ticks(self._native_id)
            first = first or now
            self._group.sleep(_GRACE)
            if now is None or first is None or now - first > 1:  # it may have been in the midst of a tick
                return self._is_at(seen)
        return False

    def _is_at(self, seen: int) -> bool:
        return self._serving and self._progress == seen

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
            if not self._is_at(seen):
                return
            self._term += 1
            self._serving = False
            self._gate.close()
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


def _ticks(thread: int) -> int | None:
    """Return the processor time of a thread, in clock ticks, if it runs or would if it could; see proc_pid_stat(5)."""
    try:
        with open(f"/proc/self/task/{thread}/stat") as file:
            state, *numbers = file.read().rpartition(") ")[2].split()
    except OSError:  # it has ended
        return None
    return int(numbers[10]) + int(numbers[11]) if state == "R" else None
