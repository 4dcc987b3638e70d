"""Tells of requests and calls that take longer than they may, and has their worker replaced; it ends none itself.

Python can end no thread safely: what is stuck ends with its worker, when that has drained for `stop_timeout`.
"""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forkd.service import Service
    from forkd.threadgroup import Thread

_log = logging.getLogger("forkd.service")

_LONGEST_NAME = 200  # characters; the worker's last end shows it in a table


class _Running:
    """One that has begun; `told`: that it takes too long."""

    __slots__ = ("began", "name", "thread", "told")

    def __init__(self, name: str, thread: Thread | None) -> None:
        self.began = time.monotonic()
        self.name = name
        self.thread = thread
        self.told = False


class Overruns:
    """What the threads of a service are at; the one that began first is the first to be late, so it stands first."""

    def __init__(self, service: Service, noun: str) -> None:
        """`noun` is what the service is asked for: a request, a call."""
        self._service = service
        self._group = service.thread_group
        self._timeout = service.request_timeout
        self._noun = noun
        self._numbers = itertools.count()
        self._running: dict[int, _Running] = {}

    def start(self) -> None:
        """Begin to look, each time when the next one may be late."""
        self._group.add_dynamic_timer(self._look, initial_delay=self._timeout)

    def begin(self, name: str) -> int:
        """Note what the calling thread begins, and return the number by which it is to `end`."""
        number = next(self._numbers)
        self._running[number] = _Running(name, self._group.current())
        return number

    def end(self, number: int) -> None:
        """Note that it has ended, or may take as long as it likes from now on; again is no harm."""
        one = self._running.pop(number, None)
        if one is None or one.told:
            return
        took = time.monotonic() - one.began
        if took > self._timeout:
            # Green threads that nothing gave way to, not even the look at it, are told of only now.
            _log.warning("%s took %.3g s, more than %g s", one.name, took, self._timeout)

    def _look(self) -> float:
        """Tell of those that are late, each once; return the seconds until another one may be."""
        now = time.monotonic()
        for one in list(self._running.values()):
            left = one.began + self._timeout - now
            if left > 0:
                return left
            if not one.told:
                one.told = True
                self._tell(one)
        return self._timeout

    def _tell(self, one: _Running) -> None:
        stack = one.thread.stack().rstrip() if one.thread is not None else ""
        _log.warning("%s has run for more than %g s and goes on:\n%s", one.name, self._timeout, stack)
        name = one.name if len(one.name) <= _LONGEST_NAME else f"{one.name[:_LONGEST_NAME]}…"
        self._service.ask_to_be_replaced(f"a {self._noun} took more than {self._timeout:g} s: {name}")


def watched(service: Service, noun: str) -> Overruns | None:
    """Return who watches over the requests or calls of a service; None where they may take as long as they like."""
    return Overruns(service, noun) if service.request_timeout else None
