"""Where every thread of a worker comes from: one `ThreadGroup`, two engines; neither is imported unasked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from forkd.errors import ForkdError
from forkd.threadgroup.engine import Event, Stopped, Thread, frames_of_others, is_patched, passes
from forkd.threadgroup.group import ThreadGroup
from forkd.threadgroup.timers import Done, Timer

if TYPE_CHECKING:
    from types import FrameType

    from forkd.threadgroup.engine import Engine

__all__ = [
    "DEFAULT_LIMITS",
    "Done",
    "Event",
    "Stopped",
    "Thread",
    "ThreadGroup",
    "Timer",
    "after_fork",
    "create",
    "current_stop",
    "frames_of_others",
    "is_patched",
    "passes",
    "prepare",
    "strays",
    "suspended",
]

DEFAULT_LIMITS = {"eventlet": 1000, "threads": 32}
"""Most threads at once in a worker, by concurrency, where nobody says otherwise."""

_MODULES = {"eventlet": "forkd.threadgroup.eventlet", "threads": "forkd.threadgroup.native"}
_engines: dict[str, Engine] = {}


def prepare(concurrency: str) -> None:
    """Make this process fit for an engine; call it first thing, before any of the service's code is imported.

    `eventlet` monkey-patches the standard library, for good; `threads` changes nothing. A second call does nothing.
    Raise `ForkdError` for an unknown concurrency, and for `threads` in a process that eventlet has patched.
    """
    _engine(concurrency).prepare()


def after_fork(concurrency: str) -> None:
    """Forget the engine's state of before the fork; a forked process calls it once, before it makes a thread group.

    Under `eventlet` it makes a hub of its own (an epoll descriptor must never be shared), and what was green and
    alive before the fork runs in the parent alone.
    """
    _engine(concurrency).after_fork()


def strays(concurrency: str) -> list[str]:
    """Return the names of the threads that run beside the calling one and would not survive a fork."""
    return _engine(concurrency).strays()


def suspended(concurrency: str) -> list[tuple[str, FrameType]]:
    """Return the name and the innermost frame of each thread that the interpreter does not know: the green ones.

    But for the calling one, whose frames are those of its native thread. It neither waits nor runs anything.
    """
    return _engine(concurrency).suspended()


def create(concurrency: str, limit: int | None = None) -> ThreadGroup:
    """Return a new group of at most `limit` threads at once, by default the concurrency's own limit.

    Raise `ForkdError` when the process has not been prepared for this concurrency.
    """
    if limit is not None and limit < 1:
        raise ForkdError(f"a thread group needs a limit of at least 1 thread, got {limit}")
    engine = _engine(concurrency)
    engine.check()
    return ThreadGroup(engine, limit or DEFAULT_LIMITS[concurrency])


def current_stop() -> Event | None:
    """Return the event that is set when the calling thread is asked to stop, or None outside every thread group."""
    for engine in _engines.values():
        thread = engine.current()
        if thread is not None:
            return thread.stop_event
    return None


def _engine(concurrency: str) -> Engine:
    if concurrency not in _MODULES:
        raise ForkdError(f"unknown concurrency {concurrency!r}: it is one of {', '.join(_MODULES)}")
    if concurrency not in _engines:
        # lazy: only the processes of an eventlet service may import eventlet
        _engines[concurrency] = cast("Engine", importlib.import_module(_MODULES[concurrency]).ENGINE)
    return _engines[concurrency]
