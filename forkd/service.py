"""The life of one worker: its threads, its start, its drain; it knows nothing of WSGI, RPC or processes."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from forkd import sockets, threadgroup
from forkd.errors import ForkdError
from forkd.scoreboard import Board
from forkd.server import Server
from forkd.threadgroup import Event, ThreadGroup

_log = logging.getLogger("forkd.service")

_LAST_MOMENT = 1.0  # seconds that threads have to heed a stop at once before the service ends without them


class WorkerIdentity(NamedTuple):
    """Who a worker is; the incarnation differs after every respawn, the slot does not."""

    host: str
    service: str
    slot: int
    incarnation: int

    def __str__(self) -> str:
        return f"{self.host}/{self.service}/{self.slot}/{self.incarnation}"


class Inheritance(NamedTuple):
    """What a worker's process hands to its service: things that were made before it, and outlive it."""

    listeners: Mapping[str, socket.socket] = {}  # by address
    board: Board | None = None
    worker: WorkerIdentity | None = None
    stop_timeout: float | None = None  # seconds
    replace: Callable[[str], object] | None = None  # asks the launcher for a successor, with the reason


class Service:
    """One Server and the thread group it runs in. It starts once and stops once; stopped, none of its threads runs.

    `server`, `name`, `threads`, `concurrency`, `request_timeout` (seconds that a request or a call may take before it
    is told of; 0: any number), `stop_timeout` (seconds a graceful stop may take), `board` (its counters), `worker` (its
    `WorkerIdentity`, None outside the daemon) and `listeners` (sockets by address) may be read at any time.
    `lease`, to be set before `start`, is the URL of what keeps the leases of tasks of the cluster, if there are any.
    `ask_to_be_replaced(reason)` has the launcher replace this worker, its successor ready first; nothing comes of it
    where there is no launcher.
    """

    def __init__(
        self,
        server: Server,
        *,
        name: str | None = None,
        threads: int | None = None,
        concurrency: str = "eventlet",
        request_timeout: float = 0.0,
    ) -> None:
        """Take the `server`; `threads` is 1000 by default, and 32 where `concurrency` is `threads`."""
        if not isinstance(server, Server):
            raise ForkdError(f"a service needs an instance of forkd.Server, got {server!r}")
        if concurrency not in threadgroup.DEFAULT_LIMITS:
            known = " or ".join(map(repr, threadgroup.DEFAULT_LIMITS))
            raise ForkdError(f"concurrency: expected {known}, got {concurrency!r}")
        if threads is not None and threads < 1:
            raise ForkdError(f"threads: expected at least 1, got {threads!r}")
        self.server = server
        self.name = name or type(server).__name__
        self.concurrency = concurrency
        self.threads = threads or threadgroup.DEFAULT_LIMITS[concurrency]
        self.request_timeout = request_timeout
        self.stop_timeout = 30.0
        self.lease: str | None = None
        self.board = Board()
        self.worker: WorkerIdentity | None = None
        self.listeners: dict[str, socket.socket] = {}
        self._bound: list[_Bound] = []
        # Locks that nobody ever waits for: each is taken by the first who comes.
        self._start_once, self._stop_once, self._at_once, self._end_once = (threading.Lock() for _ in range(4))
        self._made: _Made | None = None
        self._serving = False
        self.ask_to_be_replaced: Callable[[str], object] = _ask_nobody

    @property
    def thread_group(self) -> ThreadGroup:
        """The group that all threads of this service belong to; made when it is first asked for.

        So a Service object can be made in one process and started in its fork. Raise `ForkdError` when the process
        is not prepared for the service's concurrency.
        """
        return self._make().group

    def adopt(self, inheritance: Inheritance) -> None:
        """Take over what the worker's process was given; before `start`."""
        self.listeners.update(inheritance.listeners)
        self.board = inheritance.board or self.board
        self.worker = inheritance.worker
        self.ask_to_be_replaced = inheritance.replace or self.ask_to_be_replaced
        if inheritance.stop_timeout is not None:
            self.stop_timeout = inheritance.stop_timeout

    def listen(self, address: str, backlog: int = 2048, *, reuse_port: bool = False) -> socket.socket:
        """Return a non-blocking listening socket on `address` (`host:port`, `[::1]:port`, `unix:/path`).

        The one that the worker inherited for this very address, else one bound now; who listens closes it when its
        intake closes, and the service closes and unlinks what it bound itself at the end of its stop. With `reuse_port`
        other programs of the same user may listen on the port as well. Raise `ForkdError` when the address cannot be
        had.
        """
        if address not in self.listeners:
            sock = sockets.listen(address, backlog, reuse_port=reuse_port)
            self._bound.append(_Bound(sock, _identity(address)))
            self.listeners[address] = sock
        return self.listeners[address]

    def start(self) -> None:
        """Start the server: `server.init(self)`, then `server.start()`; when this returns the service is ready.

        What they raise is raised here, after every thread they made was stopped.
        """
        if not self._start_once.acquire(blocking=False):
            raise ForkdError(f"service {self.name} was started or stopped before: a service starts once")
        try:
            self.server.init(self)
            self._serving = True
            self.server.start()
        except BaseException:
            self._serving = False
            self._stop_once.acquire(blocking=False)
            if self._made is not None:
                self._stop_threads()
            raise

    def stop(self, graceful: bool = True) -> None:
        """Stop the server, then the timers, then the threads; return when all that is done.

        Graceful: the server closes its intake and finishes what is in flight, with timers and threads alive; then
        timers end and threads are awaited. What takes longer than `stop_timeout` is stopped at once. One of the
        service's own threads may call it: it is not waited for and gets control back at once. A second call makes a
        graceful stop one at once if it says so, and else returns at once. What the server's `stop` raises is logged.
        """
        group = self.thread_group
        self._start_once.acquire(blocking=False)
        first = self._stop_once.acquire(blocking=False)
        if not first and (graceful or self._at_once.locked()):
            return
        if group.current() is not None:
            group.add_attendant(self._stop, graceful)
        else:
            self._stop(graceful)

    def wait(self) -> None:
        """Return when the service has stopped, and `server.wait()` with it."""
        self._make().ended.wait()
        if self._serving:
            self.server.wait()

    def reset(self) -> None:
        """Have the server re-read what it wants to; called on HUP."""
        self.server.reset()

    def _stop(self, graceful: bool) -> None:
        deadline = time.monotonic() + self.stop_timeout
        if graceful:
            self._drain()
            self.thread_group.stop(graceful=True)
            if self.thread_group.wait(max(0.0, deadline - time.monotonic())):
                self._end()
                return
            _log.warning("service %s: still busy after %g s, stopped at once", self.name, self.stop_timeout)
        else:
            self._stop_server(graceful=False)
        self._stop_threads()

    def _stop_threads(self) -> None:
        """Stop the threads at once, unless another stop does: two would end each other, and nobody the service."""
        if self._at_once.acquire(blocking=False):
            self.thread_group.stop(graceful=False)
            self._end()

    def _drain(self) -> None:
        """Stop the server gracefully; after `stop_timeout` tell it to give up, and if it does not, end without it."""
        drained = self.thread_group.event()

        def give_up_in_time() -> None:
            if drained.wait(self.stop_timeout):
                return
            # In a thread of its own: whoever does not stop gracefully may not stop at all.
            self.thread_group.add_attendant(partial(self._stop_server, graceful=False))
            if not drained.wait(_LAST_MOMENT):
                _log.warning("service %s: its server did not stop in %g s, left behind", self.name, self.stop_timeout)
                self._stop_threads()

        with contextlib.suppress(ForkdError):  # no thread to be had: the launcher's own deadline still holds
            self.thread_group.add_loop(give_up_in_time)
        self._stop_server(graceful=True)
        drained.set()

    def _stop_server(self, *, graceful: bool) -> None:
        if not self._serving:
            return
        try:
            if _takes_graceful(self.server):
                self.server.stop(graceful=graceful)
            else:
                self.server.stop()
        except BaseException as error:
            if threadgroup.passes(error):
                raise
            # One that fails to stop must not keep the service from its end.
            _log.exception("service %s: its server failed to stop", self.name)

    def _end(self) -> None:
        """Give threads that were stopped at once their last moment, close what is left, and let `wait` return."""
        self.thread_group.wait(_LAST_MOMENT)
        if not self._end_once.acquire(blocking=False):
            return
        try:
            left = sorted(thread.name for thread in self.thread_group.others())
            if left:
                _log.warning("service %s: ended with threads that do not stop: %s", self.name, ", ".join(left))
            for bound in self._bound:
                bound.close()
        finally:
            self._make().ended.set()

    def _make(self) -> _Made:
        if self._made is None:
            group = threadgroup.create(self.concurrency, self.threads)
            self._made = _Made(group, group.event())
        return self._made


class _Made(NamedTuple):
    """What a service makes only in the process that it runs in: its threads, and the event that it has stopped."""

    group: ThreadGroup
    ended: Event


class _Bound(NamedTuple):
    """A socket that the service bound itself; `path` and `inode` of a Unix one, whose file may have a new owner."""

    sock: socket.socket
    file: tuple[str, int, int] | None

    def close(self) -> None:
        self.sock.close()
        if self.file is not None and _identity(f"unix:{self.file[0]}") == self.file:
            os.unlink(self.file[0])


def _identity(address: str) -> tuple[str, int, int] | None:
    """Return path, device and inode of a Unix socket's file; None when there is none."""
    path = sockets.unix_path(address)
    if path is None:
        return None
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return path, found.st_dev, found.st_ino


def _ask_nobody(reason: str) -> None:
    """Be the launcher that is not there."""


def _takes_graceful(server: Server) -> bool:
    """Tell whether a subclass's `stop` has the parameter: `def stop(self)` is a fine one too."""
    parameters = inspect.signature(server.stop).parameters
    return "graceful" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
