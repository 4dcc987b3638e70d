"""A connection to a worker and a pool of further ones, so that native threads mostly have one each.

Threads that share one wake each other and fight for the interpreter, which takes longer than a call; who reads its
answer itself is spared that. Where all are in use, the first is shared.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.rpc.transports.local.connection import Connection
from forkd.rpc.transports.local.slots import connect
from forkd.rpc.transports.waits import is_native

if TYPE_CHECKING:
    import socket

_MOST = 7  # further ones: a worker serves no more than a thousand, and more of a process's threads gain nothing


class PooledConnection(Connection):
    """As `Connection`; who calls while others do `borrow`s one."""

    def __init__(self, sock: socket.socket, slot: str) -> None:
        super().__init__(sock, slot)
        self._further: list[Connection] = []
        self._free: list[Connection] = []  # the last one used is the first to be used again
        self._places = [None] * (_MOST if is_native() else 0)  # each is taken once; green threads fight for nothing

    def rank(self) -> tuple[int, int]:
        """As in `Dialogue`."""
        in_flight, last = super().rank()
        return in_flight + len(self._further) - len(self._free), last

    def has_one_caller(self) -> bool:
        """As in `Connection`."""
        return self.rank()[0] == 1

    def borrow(self) -> Connection:
        """Return a connection to this worker that nobody else uses, or this one; to be taken back in any case."""
        if not self.pending:
            return self
        try:
            connection = self._free.pop()
        except IndexError:
            self._open()
            return self
        if not connection.usable:
            connection.glance()
        if connection.usable and connection.name == self.name and not connection.crowded:
            return connection
        if connection.usable or connection.over:
            self._drop(connection)
        else:  # no hello yet
            self._free.insert(0, connection)
            self._tidy()
        return self

    def take_back(self, connection: Connection) -> None:
        """Let others have a connection that was borrowed; none of them where it is over: then the worker is going."""
        if connection is not self:
            if connection.over:
                self.retire()
            self._free.append(connection)
            self._tidy()

    def close(self) -> None:
        """As in `Dialogue`."""
        super().close()
        for connection in list(self._further):
            connection.close()

    def forget(self) -> None:
        """As in `Dialogue`."""
        super().forget()
        for connection in self._further:
            connection.forget()

    def discard(self) -> None:
        """As in `Dialogue`; those in use follow when they are taken back."""
        super().discard()
        self._tidy()

    def _open(self) -> None:
        """Open another one, if there is a place for it, for later: nobody waits for its hello."""
        try:
            self._places.pop()
            sock = connect(self.slot)
        except (IndexError, OSError):
            return
        if sock is not None:
            connection = Connection(sock, self.slot)
            self._further.append(connection)
            self.take_back(connection)

    def _tidy(self) -> None:
        """Drop those that are free once this one is over; whoever adds one comes here after it."""
        while self.over and self._free:
            with suppress(IndexError):  # another thread was faster
                self._drop(self._free.pop())

    def _drop(self, connection: Connection) -> None:
        with suppress(ValueError):
            self._further.remove(connection)
        connection.retire()
        connection.discard()
