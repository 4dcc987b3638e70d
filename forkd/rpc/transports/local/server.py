"""The worker's side of the local transport: accepts on the socket of its slot, frames calls in and answers out.

The listener outlives the worker. To drain: accept nothing more, say `bye` on every connection, let the dispatcher
finish, say `end`. A call that arrives meanwhile is refused as moved; one that is never read was never begun, and
`end` tells the client so. A connection that ends without `end` has lost what was in flight.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING

from forkd import passage
from forkd.rpc import topics
from forkd.rpc.transports.local.caller import Caller
from forkd.rpc.transports.local.peers import Peers
from forkd.rpc.wire import PROTOCOL, frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.rpc.dispatcher import Dispatcher
    from forkd.service import Service
    from forkd.threadgroup import Thread

_log = logging.getLogger("forkd.rpc")

_MOST_CALLERS = 1000
_SPARE_FILES = 64  # descriptors that the methods can count on
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.2  # seconds until who waits while there is none left is looked at again: nothing tells when one is
_MOST_SAID = 100
_LAST_WORDS = 5.0  # seconds that a drained worker gives its callers to take what was written to them


class LocalServer:
    """The intake of one worker; it has one listener, and a `Caller` for every connection that is open."""

    def __init__(self, service: Service, topic: str, dispatcher: Dispatcher, allow: Sequence[str]) -> None:
        worker = service.worker
        slot = worker.slot if worker else 0
        self._service = service
        self._dispatcher = dispatcher
        self._name = str(worker) if worker else f"{socket.gethostname()}/{service.name}/{slot}/{os.getpid()}"
        self._peers = Peers(allow)
        self._said: set[str] = set()  # what was logged
        self._listener = _listen(service, topic, slot, is_for_all=bool(allow))
        self._listener.setblocking(False)
        self._reader = dispatcher.crew.reader()
        self._callers: set[Caller] = set()
        self._most_callers = _most_callers()
        self._lock = threading.Lock()  # guards the callers
        self._accepting: Thread | None = None

    def start(self) -> None:
        """Take connections from now on."""
        self._reader.start()
        self._accepting = self._service.thread_group.add_loop(self._accept)

    def stop(self, graceful: bool) -> None:
        """Take nothing more; graceful: return when all that began is answered, else cut every connection.

        A second call, from another thread and not graceful, ends a first one that takes too long.
        """
        self._close_intake()
        patience = 0.0
        if graceful:
            self._tell("bye")
            self._dispatcher.drain()
            self._dispatcher.wait()
            self._tell("end")
            patience = _LAST_WORDS
        deadline = time.monotonic() + patience
        for caller in self._all_callers():
            caller.hang_up(max(0.0, deadline - time.monotonic()))
        self._reader.stop()
        for caller in self._all_callers():
            caller.close()
        self._dispatcher.abandon()

    def _close_intake(self) -> None:
        if self._accepting is not None:
            self._accepting.stop()
            self._accepting.wait()
        self._listener.close()

    def _tell(self, what: str) -> None:
        words = frame({"type": what})
        for caller in self._all_callers():
            caller.send(words)

    def _all_callers(self) -> list[Caller]:
        with self._lock:
            return list(self._callers)

    def _accept(self) -> None:
        group = self._service.thread_group
        while group.wait_readable(self._listener.fileno()):
            try:
                sock, _ = self._listener.accept()
                # What accepts without blocking under eventlet gives a socket whose waits would block the hub.
                self._welcome(socket.socket(fileno=sock.detach()))
            except (BlockingIOError, ConnectionAbortedError):
                # Another worker that shares the slot for a while may have been faster; a client may be gone again.
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._log_once(f"callers wait for a connection: {error.strerror}")
                group.sleep(_PAUSE)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        refusal = self._refusal(sock)
        if refusal is not None:
            self._log_once(f"a caller was refused: {refusal}")
            with sock, contextlib.suppress(OSError):
                sock.send(frame({"type": "refused", "message": refusal}))
            return
        caller = Caller(sock, self._dispatcher, self._service.thread_group, self._reader)
        with self._lock:
            self._callers.add(caller)
        caller.send(frame(self._hello()))
        caller.start(self._part)

    def _hello(self) -> dict[str, object]:
        return {
            "type": "hello",
            "protocol": PROTOCOL,
            "worker": self._name,
            "idempotent": self._dispatcher.idempotent,
            "crowded": len(self._callers) > self._most_callers // 2,
        }

    def _refusal(self, sock: socket.socket) -> str | None:
        if len(self._callers) >= self._most_callers:
            return f"{self._most_callers} clients are connected, which is the most"
        return self._peers.refusal(sock)

    def _log_once(self, text: str) -> None:
        """Log each text once: whoever is refused may come again as often as he likes."""
        if text not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(text)
            _log.warning(text)

    def _part(self, caller: Caller) -> None:
        with self._lock:
            self._callers.discard(caller)


def _most_callers() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_CALLERS if files < 0 else min(_MOST_CALLERS, max(files // 2, files - _SPARE_FILES))


def _listen(service: Service, topic: str, slot: int, *, is_for_all: bool) -> socket.socket:
    folder = topics.directory(topic)
    path = f"{folder}/{slot}{topics.SUFFIX}"
    is_ours = f"unix:{path}" not in service.listeners  # no launcher has made it
    if is_ours:
        os.makedirs(os.path.dirname(os.path.dirname(folder)), mode=0o700, exist_ok=True)
        passage.make(folder)
    sock = service.listen(f"unix:{path}")
    if is_ours:
        os.chmod(path, passage.FOR_ALL if is_for_all else passage.FOR_OWNER)
        if is_for_all:
            passage.open_to_all(folder)
    return sock
