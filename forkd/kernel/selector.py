"""The launcher's one epoll: who is to be called when a descriptor is ready; it never sleeps past what it is told."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forkd.core.events import Event

    OnReady = Callable[[], Iterable[Event]]


_LONGEST = 86400.0  # seconds; epoll_wait(2) takes no more than 24 days


class HasFileno(Protocol):
    """What can be watched, beside a plain descriptor."""

    def fileno(self) -> int:
        """Give the descriptor."""


class Selector:
    """Level-triggered: what is left unread is reported again at the next poll."""

    __slots__ = ("_callbacks", "_epoll")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, OnReady] = {}

    def watch(self, source: HasFileno | int, on_ready: OnReady, *, write: bool = False) -> None:
        """Call `on_ready` when `source` is readable, or at its end; `write`: when it takes more, too.

        What it returns are events. Watching again replaces how it was watched. Stop before closing it.
        """
        fd = _fd(source)
        mask = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        (self._epoll.modify if fd in self._callbacks else self._epoll.register)(fd, mask)
        self._callbacks[fd] = on_ready

    def unwatch(self, source: HasFileno | int) -> None:
        """Call nobody for `source` any more; harmless when it is not watched."""
        fd = _fd(source)
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def poll(self, timeout: float | None) -> list[Event]:
        """Sleep at most `timeout` seconds (None: no limit) until something is ready; give what came of it."""
        events: list[Event] = []
        for fd, _ in self._epoll.poll(timeout if timeout is None else min(timeout, _LONGEST)):
            if on_ready := self._callbacks.get(fd):  # an earlier one of this turn may have ended it
                events.extend(on_ready())
        return events

    def close(self) -> None:
        """Watch nothing any more."""
        self._callbacks.clear()
        self._epoll.close()


def _fd(source: HasFileno | int) -> int:
    return source if isinstance(source, int) else source.fileno()
