"""Green threads that serve items, and a loop in the hub; only the processes of an eventlet service import it."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import eventlet.hubs
import eventlet.patcher
import greenlet
from eventlet.hubs.hub import READ

from forkd.busy_poll import BusyPoll
from forkd.crews.crew import PARKED_MOST, Crew, Reader, T

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.crews")
_original_select = eventlet.patcher.original("select")  # which has an epoll

_BATCH = 64  # descriptors looked at in a turn: other green threads wait no longer for it than that


class GreenCrew(Crew[T]):
    """As `Crew`: one green thread serves item after item, until one of them waits: then another goes on.

    Who waits gives way to the hub, that is to `serve`, which finds that not all are served. A few threads stay for the
    next time: to begin one costs the kernel's unmapping and mapping of its stack.
    """

    def __init__(self, group: ThreadGroup, serve: Callable[[T], None], most_waiting: int | None = None) -> None:
        super().__init__(group, serve, most_waiting)
        self._hub: Any = eventlet.hubs.get_hub()
        self._queue: deque[T] = deque()
        self._parked: list[Any] = []
        self._most_parked = min(PARKED_MOST, group.limit // 2)
        self._called = False  # to serve, by the hub, when it is its turn

    @property
    def waiting(self) -> int:
        """As in `Crew`."""
        return len(self._queue)

    def submit(self, item: T, *, urgent: bool = False, slow: bool = False) -> bool:
        """As in `Crew`; it is served by the hub's callback that has begun to `gather`, or else soon."""
        del slow  # nobody is held up
        if self._most_waiting is not None and not self._has_place(self._most_waiting):
            return False
        (self._queue.appendleft if urgent else self._queue.append)(item)
        if not self._called:
            self._called = True
            self._hub.schedule_call_global(0, self.serve)
        return True

    def gather(self) -> None:
        """Begin a turn of the hub, at whose end all that comes is served: a callback that does so calls `serve` too."""
        self._called = True

    def serve(self) -> None:
        """Have all items served, as far as there are threads for them; in the hub, at the end of a turn."""
        self._called = False
        while self._queue:
            if self._parked:
                self._parked.pop().switch()
            elif self._group.try_thread(self._work) is None:
                return

    def nudge(self) -> None:
        """As in `Crew`."""
        self.serve()

    def withdraw(self, unwanted: Callable[[T], bool]) -> list[T]:
        """As in `Crew`."""
        items, self._queue = self._queue, deque(item for item in self._queue if not unwanted(item))
        return [item for item in items if unwanted(item)]

    def dismiss(self) -> None:
        """As in `Crew`."""
        self._most_parked = 0
        while self._parked:
            self._hub.schedule_call_global(0, self._parked.pop().switch)

    def reader(self) -> GreenReader:
        """As in `Crew`."""
        return GreenReader(self)

    def _has_place(self, most_waiting: int) -> bool:
        free = len(self._parked) + self._group.slots.free
        # Without a single thread nobody would ever fetch it.
        return len(self._queue) < free + most_waiting and bool(free or self.members)

    def _work(self) -> None:
        self.members += 1
        try:
            while True:
                while self._queue:
                    self._serve(self._queue.popleft())
                if len(self._parked) >= self._most_parked:
                    return
                self._park()
        finally:
            self.members -= 1

    def _park(self) -> None:
        me = greenlet.getcurrent()
        self._parked.append(me)
        try:
            self._hub.switch()
        except BaseException:  # it is told to stop
            if me in self._parked:
                self._parked.remove(me)
            raise


class GreenReader(Reader):
    """As `Reader`: an epoll of its own, of which the hub knows one descriptor.

    So a turn of the hub, which costs as much as a small item, is shared by all that have become readable.
    """

    def __init__(self, crew: GreenCrew[Any]) -> None:
        super().__init__(_original_select.epoll())
        self._crew = crew
        self._hub: Any = eventlet.hubs.get_hub()
        self._entry: Any = None  # the hub's, for the epoll

    def start(self) -> None:
        """As in `Reader`; the hub runs already."""
        self._entry = self._hub.add(READ, self._epoll.fileno(), self._on_readable, _ignore, None)
        if not isinstance(self._hub.do_poll, BusyPoll):  # of another service in this process
            self._hub.do_poll = BusyPoll(self._hub.do_poll)  # for all that the hub waits for

    def stop(self) -> None:
        """As in `Reader`."""
        if self._entry is not None:
            self._hub.remove(self._entry)
            self._entry = None

    def _on_readable(self, _: int) -> None:
        try:
            self._crew.gather()
            try:
                self._call(fd for fd, _events in self._epoll.poll(0, _BATCH))
            finally:
                self._crew.serve()
        except Exception:  # noqa: BLE001 -- a mistake of ours must not cost everybody: the hub would drop the entry
            _log.exception("the loop stumbled")


def _ignore(*_: object) -> None:
    """Take what the hub says to a greenlet that waits; here none does."""
