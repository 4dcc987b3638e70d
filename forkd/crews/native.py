"""Native threads that serve items: they come from the service's group, and wait a while for the next one."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic

from forkd.busy_poll import BusyPoll
from forkd.crews.crew import PARKED_MOST, Crew, Reader, T
from forkd.crews.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.crews")

_PARKED = 2.0  # seconds that a thread waits for another item before it ends


class _Member(Generic[T]):
    """A thread that waits for work: whoever takes it off the list of those that wait gives it some, and rings."""

    __slots__ = ("bell", "item")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.item: T | None = None

    def take(self) -> T | None:
        """Return what it was given, if anything."""
        item, self.item = self.item, None
        return item


class NativeCrew(Crew[T]):
    """As `Crew`: items that no thread has taken, or threads without an item; never both.

    The last thread to wait is the first to work, so the others get their rest, and end. What a loop brings that reads
    for it, and is quick, goes by the loop's own `lane`.
    """

    def __init__(self, group: ThreadGroup, serve: Callable[[T], None], most_waiting: int | None = None) -> None:
        super().__init__(group, serve, most_waiting)
        self.lane = Lane(group, serve)
        self._has_lane = False
        self._lock = threading.Lock()
        self._queue: deque[T] = deque()
        self._parked: list[_Member[T]] = []
        self._most_parked = min(PARKED_MOST, max(1, group.limit // 2))
        self._dismissed = False

    @property
    def waiting(self) -> int:
        """As in `Crew`."""
        return len(self._queue)

    def submit(self, item: T, *, urgent: bool = False, slow: bool = False) -> bool:
        """As in `Crew`."""
        if self._has_lane and not slow and not self._queue and self.lane.admit(item):
            return True
        return self.enqueue(item, urgent=urgent) or self._most_waiting is None or self._may_wait(item)

    def enqueue(self, item: T, *, urgent: bool = False) -> bool:
        """Have an item served by a thread of the crew's own; return whether one will at once."""
        with self._lock:
            if self._parked:
                member = self._parked.pop()
                member.item = item
                member.bell.release()
                return True
            (self._queue.appendleft if urgent else self._queue.append)(item)
        return self._hire()

    def nudge(self) -> None:
        """As in `Crew`."""
        if self._queue:
            self._hire()

    def withdraw(self, unwanted: Callable[[T], bool]) -> list[T]:
        """As in `Crew`."""
        with self._lock:
            items, self._queue = self._queue, deque(item for item in self._queue if not unwanted(item))
        return [item for item in items if unwanted(item)]

    def dismiss(self) -> None:
        """As in `Crew`."""
        with self._lock:
            self._dismissed = True
            while self._parked:
                self._parked.pop().bell.release()

    def reader(self) -> NativeReader:
        """As in `Crew`."""
        return NativeReader(self._group, self)

    def open_lane(self, replace: Callable[[], object]) -> None:
        """Have the calling loop's thread serve what is quick, from now on; `replace` as in `Lane`."""
        self.lane.start(self.enqueue, replace)
        self._has_lane = True

    def _may_wait(self, item: T) -> bool:
        """Return whether an item that found no thread may wait for one; if not, take it back."""
        with self._lock:
            if self._queue and self._queue[-1] is item and not self._is_in_reach(len(self._queue)):
                self._queue.pop()
                return False
            return True

    def _is_in_reach(self, place: int) -> bool:
        # Without a single thread nobody would ever fetch it.
        return place <= (self._most_waiting or 0) and bool(self.members or self.lane.occupied)

    def _hire(self) -> bool:
        """Return whether another thread comes; none where the group or the system has none to give."""
        with self._lock:
            self.members += 1
        if self._group.try_thread(self._work) is None:
            with self._lock:
                self.members -= 1
            return False
        return True

    def _work(self) -> None:
        me: _Member[T] = _Member()
        try:
            while (item := self._next(me)) is not None:
                self._serve(item)
        finally:
            with self._lock:
                self.members -= 1

    def _next(self, me: _Member[T]) -> T | None:
        """Return the next item to serve; None: the calling thread is to end."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._dismissed or len(self._parked) >= self._most_parked:
                return None
            self._parked.append(me)
        if not me.bell.acquire(timeout=_PARKED):
            with self._lock:
                if me in self._parked:
                    self._parked.remove(me)
                    return None
            me.bell.acquire()  # it was given something in this very moment
        return me.take()


class NativeReader(Reader):
    """As `Reader`: one thread at a time, which serves what is in the lane itself."""

    def __init__(self, group: ThreadGroup, crew: NativeCrew[T]) -> None:
        super().__init__(select.epoll())
        self._wait = BusyPoll(self._epoll.poll)
        self._group = group
        self._crew = crew
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._ended = False
        self._stopped = threading.Event()
        self._stopped.set()

    def __del__(self) -> None:
        os.close(self._alarm)

    def start(self) -> None:
        """As in `Reader`."""
        self._stopped.clear()
        self._group.add_loop(self._run)
        self._crew.open_lane(lambda: self._group.add_loop(self._run))

    def stop(self) -> None:
        """As in `Reader`."""
        self._ended = True
        os.eventfd_write(self._alarm, 1)
        self._stopped.wait()

    def _run(self) -> None:
        while not self._ended:
            try:
                self._call(fd for fd, _events in self._wait(None))
                if not self._crew.lane.serve():
                    self._crew.nudge()  # it took so long that another thread goes on with the loop
                    return
            except Exception:  # noqa: BLE001 -- a mistake of ours must not cost everybody
                _log.exception("the loop stumbled")
        self._stopped.set()
