"""What a crew is, and the loop that brings it what it is to serve; each engine has both in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from select import EPOLLIN
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from select import epoll

    from forkd.threadgroup import ThreadGroup

T = TypeVar("T")

PARKED_MOST = 32
"""Threads of a crew that wait for work, at most; and no more than half of the group's, so that others find one."""


class Crew(ABC, Generic[T]):
    """Threads of the service's group, each of which serves one item at a time; items wait where there is no thread."""

    def __init__(self, group: ThreadGroup, serve: Callable[[T], None], most_waiting: int | None = None) -> None:
        """`serve` is called with each item in a thread; beyond `most_waiting` items that wait others are refused."""
        self.members = 0  # threads it has
        self._group = group
        self._serve = serve
        self._most_waiting = most_waiting

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many items wait."""

    @abstractmethod
    def submit(self, item: T, *, urgent: bool = False, slow: bool = False) -> bool:
        """Have an item served as soon as a thread is free; never blocks. Return whether it will be.

        An `urgent` one goes before those that wait; one that is `slow` would hold up others that are quick.
        """

    @abstractmethod
    def nudge(self) -> None:
        """Try again to get a thread for what waits, in case others had taken all of the group's; now and then."""

    @abstractmethod
    def withdraw(self, unwanted: Callable[[T], bool]) -> Iterable[T]:
        """Return those items that wait and are unwanted: they are not served."""

    @abstractmethod
    def dismiss(self) -> None:
        """Let threads end that wait for work, and the others when nothing waits any more."""

    @abstractmethod
    def reader(self) -> Reader:
        """Return a new loop that may `submit` items to this crew; there is one at most."""


class Reader(ABC):
    """A loop that calls when a descriptor can be read, or has failed; the calls neither block nor raise.

    All but `start` may be used by any thread.
    """

    def __init__(self, poll: epoll) -> None:
        """Watch by an epoll of its own."""
        self._epoll = poll
        self._sources: dict[int, Callable[[], None]] = {}

    @abstractmethod
    def start(self) -> None:
        """Begin to call."""

    @abstractmethod
    def stop(self) -> None:
        """Return when nothing is called any more, also where nothing has begun to be."""

    def add(self, fd: int, fn: Callable[[], None]) -> None:
        """Call `fn` whenever there is something to read, until it is removed."""
        self._sources[fd] = fn
        self._epoll.register(fd, EPOLLIN)

    def remove(self, fd: int) -> None:
        """Call for it no more, but perhaps once."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _call(self, fds: Iterable[int]) -> None:
        """Call for what is ready."""
        for fd in fds:
            fn = self._sources.get(fd)
            if fn is not None:
                fn()
