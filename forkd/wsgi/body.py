"""`wsgi.input`: a request's body, read from the connection as the application asks for it and never held whole."""

from __future__ import annotations

import re
import threading
from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING

from forkd.wsgi.connection import RECEIVE_SIZE
from forkd.wsgi.refusal import BodyRefused, ClientGone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.wsgi.connection import Connection
    from forkd.wsgi.head import Request

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION = rb"[\t ]*;[\t ]*" + _TOKEN + rb"(?:[\t ]*=[\t ]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*")
_TRAILER = re.compile(_TOKEN + rb":[\t -~\x80-\xff]*")
_LINE_LIMIT = 1024  # of a chunk's size with its extensions, and of a trailer field
_FREE = 16  # bytes of a chunk's line that are granted beside as many as it has of data
_MOST_EXCESS = 16384  # bytes of all its lines beyond that: extensions are no way to send more than a body may have
_MOST_TRAILERS = 100


class NoBody:
    """The input of a request without a body; it keeps nothing, so one serves all."""

    failure: BodyRefused | ClientGone | None = None
    finished = True
    unsolicited = False
    answered = True

    def longer_than(self, limit: int) -> bool:  # noqa: ARG002 -- as in `Body`
        """Return False."""
        return False

    def discard(self, limit: int) -> bool:  # noqa: ARG002 -- as in `Body`
        """Return that nothing is left."""
        return True

    def abandon(self) -> None:
        """See `Body`."""

    def read(self, size: int | None = -1) -> bytes:  # noqa: ARG002 -- PEP 3333's signature
        """Return b""."""
        return b""

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002 -- as above
        """Return b""."""
        return b""

    def readlines(self, hint: int | None = -1) -> list[bytes]:  # noqa: ARG002 -- as above
        """Return no lines."""
        return []

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


class Body(metaclass=ABCMeta):  # of ABC, mypyc makes a class of which a weak reference crashes the process
    """The input of a request with a body; subclasses know how it is framed.

    `failure` is what made it unreadable, if anything did: the connection cannot be used for another request then.
    `finished`: all of it has been taken off the connection.
    """

    def __init__(self, conn: Connection, *, expects: bool) -> None:
        self._conn = conn
        self._held = b""  # decoded; asked for as far as `_at`
        self._at = 0
        self._pulling = threading.Lock()
        self._expects = expects
        self.answered = False  # the response has begun: no more "100 Continue"
        self.failure: BodyRefused | ClientGone | None = None
        self.finished = False

    @property
    def unsolicited(self) -> bool:
        """Whether the client still waits for the word to send it."""
        return self._expects and not self._conn.buffer

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end; all there are when it is negative or None."""
        limit = -1 if size is None else size
        pieces = []
        while limit != 0 and self._at_hand():
            piece = self._take(len(self._held) if limit < 0 else self._at + limit)
            pieces.append(piece)
            if limit > 0:
                limit -= len(piece)
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line with its line end, or what is left; at most `size` bytes unless negative or None."""
        limit = -1 if size is None else size
        pieces = []
        while limit != 0 and self._at_hand():
            stop = len(self._held) if limit < 0 else self._at + limit
            end = self._held.find(b"\n", self._at, stop) + 1
            piece = self._take(end or stop)
            pieces.append(piece)
            if end:
                break
            if limit > 0:
                limit -= len(piece)
        return b"".join(pieces)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return lines until they have `hint` bytes together; all lines when it is None or not positive."""
        lines = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def discard(self, limit: int) -> bool:
        """Take what is left off the connection, if it is at most `limit` bytes; return whether nothing is left."""
        self._held, self._at = b"", 0
        if not self._pulling.acquire(blocking=False):
            return False
        try:
            while not self.finished and limit > 0 and not self.unsolicited:
                limit -= len(self._pull(RECEIVE_SIZE)) or 1
                self._expects = False  # it has not waited
        except (BodyRefused, ClientGone) as failure:
            self.failure = failure
        finally:
            self._pulling.release()
        return self.finished

    def abandon(self) -> None:
        """Give no more of it to an application that has answered: the connection is another's, or none."""
        self.failure = self.failure or ClientGone("the request has ended")

    def _take(self, stop: int) -> bytes:
        """Return what is held up to the index `stop`."""
        piece = self._held[self._at : stop]
        self._at += len(piece)
        return piece

    def _at_hand(self) -> bool:
        """Return whether decoded bytes are held, after receiving some if need be; False at the end alone."""
        while self._at == len(self._held):
            if self.finished:
                return False
            self._held, self._at = self._pull_checked(), 0
        return True

    def _pull_checked(self) -> bytes:
        if self.failure is not None:
            raise self.failure
        if not self._pulling.acquire(blocking=False):
            # Bytes of the next request would be taken for those of this one.
            raise RuntimeError("another thread is reading the request's body")
        try:
            if self._expects:
                if self.unsolicited and not self.answered:
                    self._conn.send(_CONTINUE)
                self._expects = False
            return self._pull(RECEIVE_SIZE)
        except (BodyRefused, ClientGone) as failure:
            self.failure = failure
            raise
        finally:
            self._pulling.release()

    @abstractmethod
    def longer_than(self, limit: int) -> bool:
        """Return whether more than `limit` bytes of it may still have to come off the connection."""

    @abstractmethod
    def _pull(self, limit: int) -> bytes:
        """Return the next decoded bytes, at most `limit`; b"" and `finished` at the end."""


class SizedBody(Body):
    """A body framed by Content-Length."""

    def __init__(self, conn: Connection, length: int, *, expects: bool) -> None:
        super().__init__(conn, expects=expects)
        self._left = length

    def longer_than(self, limit: int) -> bool:
        """See `Body`."""
        return self._left > limit

    def _pull(self, limit: int) -> bytes:
        data = self._conn.receive(min(limit, self._left))
        self._left -= len(data)
        self.finished = not self._left
        return data


class ChunkedBody(Body):
    """A body in chunks (RFC 9112, section 7.1), as strict as that: extensions and trailers are checked and dropped."""

    def __init__(self, conn: Connection, limit: int, *, expects: bool) -> None:
        """Refuse what is longer than `limit` bytes without its framing; 0: no limit."""
        super().__init__(conn, expects=expects)
        self._limit = limit
        self._total = 0
        self._excess = 0
        self._left = 0  # bytes of the present chunk
        self._between = False  # a chunk's data is taken, the CRLF after it is not

    def longer_than(self, limit: int) -> bool:  # noqa: ARG002 -- it cannot be known
        """See `Body`."""
        return not self.finished

    def _pull(self, limit: int) -> bytes:
        if self._between:
            if self._conn.receive_line(_LINE_LIMIT):
                raise BodyRefused(400, "a chunk is longer than it says")
            self._between = False
        if not self._left:
            self._left = self._next_chunk()
            if not self._left:
                self._trailers()
                self.finished = True
                return b""
        data = self._conn.receive(min(limit, self._left))
        self._left -= len(data)
        self._between = not self._left
        return data

    def _next_chunk(self) -> int:
        line = self._conn.receive_line(_LINE_LIMIT)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BodyRefused(400, "malformed chunk size or extension")
        size = int(match[1], 16)
        self._excess = max(0, self._excess + len(line) - size - _FREE)
        if self._excess > _MOST_EXCESS:
            raise BodyRefused(413, "the chunks have more extensions than data")
        self._total += size
        if self._limit and self._total > self._limit:
            raise BodyRefused(413, "the body is too long")
        return size

    def _trailers(self) -> None:
        for _ in range(_MOST_TRAILERS + 1):
            line = self._conn.receive_line(_LINE_LIMIT)
            if not line:
                return
            if not _TRAILER.fullmatch(line):
                raise BodyRefused(400, "malformed trailer field")
        raise BodyRefused(431, "too many trailer fields")


_NO_BODY = NoBody()


def body_of(conn: Connection, request: Request, limit: int) -> Body | NoBody:
    """Return the input for a request; `limit` in bytes is for a chunked one, whose head does not tell its length."""
    if request.chunked:
        return ChunkedBody(conn, limit, expects=request.expects)
    if request.length:
        return SizedBody(conn, request.length, expects=request.expects)
    return _NO_BODY
