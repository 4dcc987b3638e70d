"""One client's connection at the worker: reads its calls, writes its answers; whatever it does hurts nobody else.

Answers are written by the threads that ran the calls, as far as the socket takes them at once. While the rest waits,
nothing more is read from this client, so what it can pile up is bounded. A client that takes nothing for too long, or
too much, is cut off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from forkd.errors import ProtocolError
from forkd.rpc.transports.local.outbox import Outbox
from forkd.rpc.wire import Frames, request

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from forkd.crews import Reader
    from forkd.rpc.dispatcher import Dispatcher
    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.rpc")

_READ = 16384  # to make room for more would cost every call, and few are longer


class Caller:
    """A connection: read in one loop, written by any thread."""

    def __init__(self, sock: socket.socket, dispatcher: Dispatcher, group: ThreadGroup, reader: Reader) -> None:
        """Take over a connected, non-blocking socket."""
        self._sock = sock
        self._dispatcher = dispatcher
        self._reader = reader
        self._frames = Frames()
        self._outbox = Outbox(sock, group, self._unmute)
        self._muted = False  # not read until the outbox is empty; guarded by its lock
        self.send = self._outbox.send

    def start(self, part: Callable[[Caller], object]) -> None:
        """Submit calls until the client goes or misbehaves; `part` is called then, or at the `close` of others."""
        self._part = part
        self._reader.add(self._sock.fileno(), self._on_readable)

    def hang_up(self, patience: float) -> None:
        """End the connection, after what waits in the outbox is written or `patience` seconds have passed.

        The loop that reads sees it, and closes.
        """
        self._outbox.await_flush(patience)
        with self._outbox.lock:
            self._outbox.cut_off()

    def close(self) -> None:
        """Give the descriptor back: in the loop that reads or after its end, for nobody may close what is watched."""
        with self._outbox.lock:
            self._outbox.cut_off()
            self._reader.remove(self._sock.fileno())
            self._sock.close()
        self._part(self)

    def _on_readable(self) -> None:
        try:
            for message in self._frames.feed(self._read()):
                self._dispatcher.submit(request(message), self.send)
        except BlockingIOError:
            return
        except ProtocolError as error:
            _log.warning("a caller was cut off: %s", error)
            self.close()
        except OSError:  # it is gone
            self.close()
        else:
            if self._outbox.flushed is not None:
                self._mute()

    def _read(self) -> bytes:
        """Return what has come; raise `OSError` where nothing will any more."""
        data = b"" if self._outbox.cut else self._sock.recv(_READ)
        if not data:
            raise ConnectionResetError
        return data

    def _mute(self) -> None:
        with self._outbox.lock:
            if self._outbox.flushed is not None and not self._outbox.cut:
                self._muted = True
                self._reader.remove(self._sock.fileno())

    def _unmute(self) -> None:
        """Read again, to the connection's end if need be; with the outbox's lock held."""
        if self._muted:
            self._muted = False
            self._reader.add(self._sock.fileno(), self._on_readable)
