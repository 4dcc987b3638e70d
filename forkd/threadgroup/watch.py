"""Tells of calls that take longer than they may; it ends none, since Python can end no call safely."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.threadgroup.engine import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.scoreboard import Record
    from forkd.threadgroup.engine import Engine, Thread

_log = logging.getLogger("forkd.threadgroup")


class Watch:
    """Watches the calls of one timer; each that takes more than `timeout` seconds is logged and counted once."""

    def __init__(
        self, task: Task, timeout: float, engine: Engine, start: Callable[[Task], Thread], record: Record
    ) -> None:
        self.overruns = 0
        self._name = task.name
        self._timeout = timeout
        self._engine = engine
        self._start = start
        self._record = record

    def over(self, call: Callable[[], Any]) -> Any:
        """Make the call; return and raise what it does."""
        begun, ended = time.monotonic(), self._engine.event()
        untold = threading.Lock()  # nobody waits for it: who takes it tells
        caller = self._engine.current()

        def look() -> None:
            if not ended.wait(self._timeout) and untold.acquire(blocking=False):
                stack = "" if caller is None else caller.stack()
                self._tell("has run for more than %g s and goes on:\n%s", self._timeout, stack.rstrip())

        with contextlib.suppress(ForkdError):  # no thread to be had: it is told of at its end
            self._start(Task(look, (), {}, f"{self._name} (watch)"))
        try:
            return call()
        finally:
            ended.set()
            took = time.monotonic() - begun
            # One that gave way to no other green thread, its watch neither, is told of only now.
            if took > self._timeout and untold.acquire(blocking=False):
                self._tell("took %.3g s, more than %g s", took, self._timeout)

    def _tell(self, text: str, *values: object) -> None:
        self.overruns += 1
        self._record.add("late")
        _log.warning(f"timer %s: a call {text}", self._name, *values)
