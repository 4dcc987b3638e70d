"""Accepting connections, as many as the process has room for, and the deadlines of those that are in.

As everything that runs in the loop it neither blocks nor logs: under eventlet the loop is a green thread that must
never wait, not even for the lock of a log handler.
"""

from __future__ import annotations

import errno
import math
import resource
import time
from typing import TYPE_CHECKING

from forkd.wsgi.connection import PREFACE, Connection

if TYPE_CHECKING:
    from forkd.wsgi.connections import Connections
    from forkd.wsgi.engine import Engine
    from forkd.wsgi.intake import Intake
    from forkd.wsgi.listener import Listener
    from forkd.wsgi.options import Options

_BATCH = 16  # connections accepted at a time: those that are open wait no longer for it than that
_MOST_ENDED = 100  # connections ended at a time, likewise: a crowd that came together goes together
_SPARE_FILES = 64  # descriptors that the application can count on
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Entrance:
    """The listeners of this process; with no room for another connection they are left alone until there is.

    A private one is not: a worker that has as many connections as it can is busy, and no less healthy for that.
    """

    def __init__(self, engine: Engine, options: Options, intake: Intake) -> None:
        self._engine = engine
        self._intake = intake
        self._connections: Connections = intake.connections
        self._connections.on_room = self._listen
        self._backlog = options.backlog
        self._header_timeout = options.header_timeout or math.inf
        self._proxied = options.proxy_protocol
        self._listeners: list[Listener] = []
        self._most = _most_connections()
        self._sweeping = False

    def open(self, listeners: list[Listener]) -> None:
        """Begin to accept."""
        self._listeners = listeners
        self._listen()

    def close(self, *, accept: bool) -> None:
        """Close the listeners in this process; first `accept` who is waiting already."""
        listeners, self._listeners = self._listeners, []
        self._connections.full = False
        for listener in listeners:
            self._engine.loop.unlisten(listener)
            for _ in range(self._backlog if accept else 0):
                if not self._accept(listener):
                    break
            listener.close()

    def acceptable(self, listener: Listener) -> None:
        """As in `Reception`."""
        for _ in range(_BATCH):
            if not self._accept(listener):
                return

    def sweep(self) -> None:
        """As in `Reception`: end what has lasted too long."""
        late, wait = self._connections.due(time.monotonic())
        for conn in late[:_MOST_ENDED]:
            self._intake.expire(conn)
        self._engine.crew.nudge()
        if self._connections.full and self._has_room():
            self._listen()
        self._sweeping = False
        if len(self._connections) or self._connections.full:
            self._sweep_in(wait if len(late) <= _MOST_ENDED else 0.0)

    def _listen(self) -> None:
        self._connections.full = False
        for listener in self._listeners:
            self._engine.loop.listen(listener)

    def _accept(self, listener: Listener) -> bool:
        """Accept one connection; return whether there may be another."""
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # Any other error is that of one connection, which is gone.
            return self._stop_listening(private=True) if error.errno in _EXHAUSTED else True
        conn = Connection(sock, peer, listener, self._engine.waiter)
        conn.deadline = time.monotonic() + self._header_timeout
        self._connections.add(conn)
        if self._proxied and not listener.private and peer[0] in self._intake.proxies:
            conn.state = PREFACE
        else:
            self._intake.admit(conn)
        self._engine.loop.watch(conn)
        if not self._sweeping:
            self._sweep_in(self._connections.period)
        # Not only when the next one comes: the kernel wakes a single process for it, and that may be this one.
        return self._has_room() or self._stop_listening(private=False)

    def _has_room(self) -> bool:
        return len(self._connections) < self._most

    def _stop_listening(self, *, private: bool) -> bool:
        """Leave those who wait in the kernel's queue, or to other workers, until there is room again."""
        self._connections.full = True
        for listener in self._listeners:
            if private or not listener.private:
                self._engine.loop.unlisten(listener)
        if not self._sweeping:
            self._sweep_in(self._connections.period)
        return False

    def _sweep_in(self, seconds: float) -> None:
        self._sweeping = True
        self._engine.loop.wake_in(seconds)


def _most_connections() -> float:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if files == resource.RLIM_INFINITY else max(files // 2, files - _SPARE_FILES)
