"""The access log: requests' threads note in passing what a thread of its own writes in batches; nobody waits for it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.request_id import RequestIds
from forkd.wsgi.access_lines import JsonLines, Lines, TextLines, refused
from forkd.wsgi.refusal import text
from forkd.wsgi.sink import Sink

if TYPE_CHECKING:
    from forkd.core.spec import AccessLogSpec
    from forkd.service import Service
    from forkd.wsgi.access_lines import Entry
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.head import Request
    from forkd.wsgi.response import Response

CLIENT_LEFT = 499  # nginx's status for a client that has left before it was told one

_PERIOD = 0.2  # seconds that lines are collected for
_RETRY = 0.01  # seconds until what a stream has not taken is offered again
_SEEN = 4096  # bytes of a head that was refused in which something is looked for
# Lines that are made at a stretch, the least and which part of all, and seconds until the next ones: meanwhile green
# threads have their turn, and native ones the interpreter's lock, which this one would hold for 5 ms.
_LEAST, _PART, _BREATH = 128, 16, 0.001
_STRETCH = 1 << 18  # bytes of lines, likewise: clients choose how long they are
_MOST = 50_000  # entries in the queue
_ROOM = 8 << 20  # bytes of lines that are not written yet
_LAST_MOMENT = 1.0  # seconds that a stream has for the last lines
_SILENCE = 10.0  # seconds between two words about lost lines

_log = logging.getLogger("forkd.wsgi")


class AccessLog:
    """A queue of entries, and a loop of the service's thread group that writes them.

    `served` and `refused` may be called by any thread and in the engine's loop. What finds no room is dropped and
    counted, the newest first. `ids` are what requests are called.
    """

    def __init__(self, spec: AccessLogSpec, service: Service) -> None:
        """Open it, and write from now on; raise `ForkdError` when the file cannot be had."""
        self.ids = RequestIds()
        self._group = service.thread_group
        try:
            self._sink = Sink(spec.file, self._group.is_writable)
        except OSError as error:
            raise ForkdError(f"access_log.file: cannot open {spec.file}: {error.strerror}") from None
        self._lines = _lines(spec.format, self._sink.limit, service)
        self._queue: deque[Entry] = deque()
        self._ready: deque[bytes] = deque()
        self._held = 0  # bytes of those that are ready
        self._bell = self._group.event()
        self._asleep = False
        self._writing = threading.Lock()
        self._losing = threading.Lock()
        self._lost = 0
        self._tell_at = 0.0
        self._failing = False
        self._owner = os.getpid()
        atexit.register(self.close)
        self._group.add_loop(self._run)

    def served(self, request: Request, response: Response, began: float, seconds: float, *, failed: bool) -> None:
        """Note a request that the application had, and what became of it; `began` is a monotonic instant."""
        get, line = request.environ.get, request.line.environ
        self._add(
            (
                began,
                seconds,
                response.code or CLIENT_LEFT,
                response.sent,
                failed,
                get("REMOTE_ADDR"),
                get("REMOTE_USER"),
                request.method,
                line["RAW_URI"],
                line["SERVER_PROTOCOL"],
                get("HTTP_REFERER"),
                get("HTTP_USER_AGENT"),
                get("forkd.request_id"),
            )
        )

    def refused(self, conn: Connection, status: int, start: bytes | bytearray, reason: str) -> None:
        """Note that the server itself has answered to a head, or to the `start` of one."""
        seen, sent = refused(bytes(start[:_SEEN])), len(text(status, reason))
        self._add((time.monotonic(), None, status, sent, False, conn.peer[0], None, *seen, None))

    def reopen(self) -> None:
        """Open the file anew, which somebody has renamed."""
        with self._writing:
            try:
                self._sink.reopen()
            except OSError as error:
                _log.error("access log: %s stays as it was: %s", self._sink.name, error.strerror)

    def flush(self, patience: float) -> None:
        """Write everything that is queued; a stream that takes nothing is given so many seconds."""
        deadline = time.monotonic() + patience
        while self._turn() or (self._ready and time.monotonic() < deadline):
            self._group.sleep(_RETRY if self._ready else 0)

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        atexit.unregister(self.close)
        if self._owner != os.getpid():
            return  # a fork of the application's: the lines are its parent's
        self._owner = 0
        self.flush(_LAST_MOMENT)
        self._lost += len(self._ready)
        self._tell_lost()
        self._sink.close()

    def _add(self, entry: Entry) -> None:
        if len(self._queue) >= _MOST:
            with self._losing:
                self._lost += 1
            return
        self._queue.append(entry)
        if self._asleep:
            self._asleep = False
            self._bell.set()

    def _run(self) -> None:
        while True:
            self._await_something()
            self._group.sleep(_RETRY if self._ready else _PERIOD)
            while self._turn():
                self._group.sleep(_BREATH)
            if self._lost and time.monotonic() >= self._tell_at:
                self._tell_lost()

    def _await_something(self) -> None:
        self._bell = self._group.event()
        self._asleep = True  # whoever adds something now rings, and what was added before is seen here
        if not (self._queue or self._ready):
            self._bell.wait()
        self._asleep = False

    def _turn(self) -> bool:
        """Write some of what is queued; return whether there is more."""
        with self._writing:
            offset = time.time() - time.monotonic()
            waiting, made = len(self._queue), 0
            for _ in range(min(waiting, max(_LEAST, waiting // _PART))):
                entry = self._queue.popleft()
                if self._held < _ROOM:
                    line = self._lines.line(entry, offset)
                    self._ready.append(line)
                    self._held += len(line)
                    made += len(line)
                    if made > _STRETCH:
                        break
                else:
                    with self._losing:
                        self._lost += 1
            if self._ready:
                self._write()
            return bool(self._queue)

    def _write(self) -> None:
        try:
            self._held -= self._sink.write(self._ready)
        except OSError as error:
            if not self._failing:
                _log.error("access log: cannot write to %s, it is tried again: %s", self._sink.name, error.strerror)
            self._failing = True
            return
        if self._failing:
            _log.warning("access log: %s is written again", self._sink.name)
        self._failing = False

    def _tell_lost(self) -> None:
        with self._losing:
            lost, self._lost = self._lost, 0
        if lost:
            _log.warning("access log: %d lines are lost, since %s took no more", lost, self._sink.name)
        self._tell_at = time.monotonic() + _SILENCE


def _lines(format: str, limit: int, service: Service) -> Lines:
    if format == "json":
        return JsonLines(limit, service.name, service.worker.slot if service.worker is not None else None)
    return TextLines(limit)
