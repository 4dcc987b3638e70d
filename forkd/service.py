"""The life of one worker: its threads, its start, its drain; it knows nothing of WSGI, RPC or processes."""

from __future__ import annotations

import inspect
import logging
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from forkd import sockets, threadgroup
from forkd.errors import ForkdError
from forkd.scoreboard import Board

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from forkd.server import Server
    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.service")

_LAST_MOMENT = 1.0  # seconds that threads have to heed a stop at once before the service ends without them


class WorkerIdentity(NamedTuple):
    """Who a worker is; the incarnation differs after every respawn, the slot does not."""

    host: str
    service: str
    slot: int
    incarnation: int


class Inheritance(NamedTuple):
    """What a worker's process hands to its service: things that were made before it, and outlive it."""

    listeners: Mapping[str, socket.socket] = {}  # noqa: RUF012 -- a NamedTuple default, never written to
    board: Board | None = None
    worker: WorkerIdentity | None = None
    stop_timeout: float | None = None


class Service:
    """One Server and the thread group it runs in. It starts once and stops once; stopped, none of its threads runs.

    `server`, `name`, `threads`, `concurrency`, `stop_timeout` (seconds a graceful stop may take), `board` (its
    counters), `worker` (its `WorkerIdentity`, None outside the daemon) and `listeners` (inherited sockets by address)
    may be read at any time.
    """

    def __init__(
        self, server: Server, *, name: str | None = None, threads: int | None = None, concurrency: str = "eventlet"
    ) -> None:
        """Take the `server`; `threads` is 1000 by default, and 32 where `concurrency` is `threads`."""


    @property
    def thread_group(self) -> ThreadGroup:
        """The group that all threads of this service belong to; made when it is first asked for.

        So a Service object can be made in one process and started in its fork. Raise `ForkdError` when the process
        is not prepared for the service's concurrency.
        """

    def adopt(self, inheritance: Inheritance) -> None:
        """Take over what the worker's process was given; before `start`."""

    def listen(self, address: str, backlog: int = 2048) -> socket.socket:
        """Return a non-blocking listening socket on `address` (`host:port`, `[::1]:port`, `unix:/path`).

        The one that the worker inherited for this very address, else one bound now; who listens closes it when its
        intake closes, and the service closes and unlinks what it bound itself at the end of its stop. Raise
        `ForkdError` when the address cannot be had.
        """

    def start(self) -> None:
        """Start the server: `server.init(self)`, then `server.start()`; when this returns the service is ready.

        What they raise is raised here, after every thread they made was stopped.
        """

    def stop(self, graceful: bool = True) -> None:
        """Stop the server, then the timers, then the threads; return when all that is done.

        Graceful: the server closes its intake and finishes what is in flight, with timers and threads alive; then
        timers end and threads are awaited. What takes longer than `stop_timeout` is stopped at once. From any thread:
        one of the service's own is not waited for and gets control back at once. A second call returns at once,
        and stops at once when it says so. What the server's `stop` raises is logged.
        """

    def wait(self) -> None:
        """Return when the service has stopped."""

    def reset(self) -> None:
        """Have the server re-read what it wants to; called on HUP."""
