"""The response to one request, from the application's `start_response` to its last byte on the connection."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from forkd.wsgi.fields import CLOCK, fields, length_line, status_line
from forkd.wsgi.wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from forkd.wsgi.body import Body, NoBody
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.connections import Connections
    from forkd.wsgi.head import Request
    from forkd.wsgi.outlet import Outlet
    from forkd.wsgi.wrapper import Extent

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_COPIED = 32768  # bytes of a piece that is cheaper copied behind its head than sent by a second system call
DISCARDED = 65536  # bytes of an unread body that are taken off a connection to keep it


class Response:
    """Frames what an application answers; nothing is sent before its first byte of body is known (PEP 3333).

    `begun`: bytes have been sent, so no other answer can be given. `code`: the status, once the kernel has it, or the
    outlet; `sent`: bytes of the body that went there. `keep_alive`: the connection may be used again after it.
    `truncated`: it ended with fewer or more bytes than its Content-Length promised. `over`: nothing more may be sent,
    since the request has ended, or all of that length has gone.
    """

    __slots__ = (
        "_chunked",
        "_conn",
        "_connections",
        "_headers",
        "_left",
        "_mute",
        "_outlet",
        "_request",
        "_status",
        "begun",
        "body",
        "code",
        "delimited_by_close",
        "keep_alive",
        "over",
        "sent",
        "truncated",
    )

    def __init__(
        self, conn: Connection, request: Request, body: Body | NoBody, connections: Connections, outlet: Outlet
    ) -> None:
        self._conn = conn
        self._connections = connections
        self._outlet = outlet
        self._request = request
        self.body = body
        self._status: tuple[int, bytes] | None = None
        self._headers: Iterable[Any] = ()
        self._chunked = False
        self._mute = False  # no body may be sent: HEAD, 204, 304
        self._left: int | None = None  # bytes that Content-Length still promises
        self.begun = False
        self.over = False
        self.code = 0
        self.sent = 0
        self.delimited_by_close = False
        self.truncated = False
        self.keep_alive = request.keep_alive

    def start(self, status: str, headers: Iterable[Any], exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        """WSGI's `start_response`."""
        if exc_info is not None:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a traceback that is kept would hold its frames
        elif self._status is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self._status = status_line(status)
        self._headers = headers
        return self.write

    def send(self, result: Iterable[bytes]) -> None:
        """Send what the application returned, and end the response."""
        kind = type(result)
        if (kind is list or kind is tuple) and not self.begun:
            data = b"".join(result)
            self._begin(data, len(data))
        elif type(result) is FileWrapper and self._conn.tls is None and not self.begun and (extent := result.extent()):
            self._send_file(extent)
        elif self._conn.upgraded is None:
            self._send_pieces(result)
        if self._chunked:
            self._conn.send(b"0\r\n\r\n")
        elif self._left:
            self.truncated = True
        elif kind is FileWrapper:
            self.truncated = False  # by PEP 3333 it is no mistake that a file goes on after its Content-Length

    def write(self, data: bytes) -> None:
        """Send a piece of the body before returning; also what `start_response` returns."""
        if not isinstance(data, bytes):
            raise TypeError(f"a response is made of bytes, not {type(data).__name__}")
        if self.over:
            raise ValueError("nothing can be written behind the end of a response")
        if not self.begun:
            self._begin(data, None)
        elif data and not self._mute:
            self._conn.send(self._framed(data))

    def _send_pieces(self, pieces: Iterable[Any]) -> None:
        """Send pieces as they come, as long as more may be sent; what is empty may be anything."""
        for data in pieces:
            if data:
                self.write(data)
            if self.over or (self._mute and self.begun):
                break
        if not self.begun:
            self._begin(b"", 0)

    def _send_file(self, extent: Extent) -> None:
        """Send what is left of a file, or as much of it as Content-Length says; the kernel takes it from the file."""
        small = extent.size <= _COPIED
        data = os.pread(extent.fd, extent.size, extent.start) if small else b""
        self._begin(data, extent.size)
        if self._left:
            self.sent += self._left  # what a client that is lost did not get is taken off later, as of any piece
            missing = self._left - self._conn.send_file(extent.fd, extent.start + len(data), self._left)
            self.sent -= missing
            self._left = missing

    def _begin(self, data: bytes, known: int | None) -> None:
        """Send the head with the first piece of the body; `known` is the length of all of it, if that is known."""
        if self._conn.upgraded is not None:
            return  # the application has answered by itself
        if self._status is None:
            raise AssertionError("the application did not call start_response")
        if self.body.failure is not None:
            raise self.body.failure  # what the application made of half a request is of no use
        code, line = self._status
        block, declared, close, dated, named = fields(self._headers)
        if self._request.method == "HEAD" or code in (204, 304):
            self._mute, data = True, b""
            block, framing = _without_body(code, block, declared, known)
        elif declared is not None:
            self._left, framing = declared, b""
        elif known is not None:
            self._left, framing = known, length_line(known)
        else:
            framing = self._frame_as_it_comes()
        body = self.body
        if not body.finished:
            body.answered = True
            close = close or self._must_close()
        if close or not self._connections.keeps:
            self.keep_alive = False
        self.begun = True
        head = line, CLOCK.block(dated=dated, named=named), block, framing, self._end_of_head()
        first = self._framed(data) if data else b""
        if len(first) <= _COPIED:
            self._send_first(b"".join((*head, first)))
            self.code = code
        else:
            self._conn.send(b"".join(head))
            self.code = code
            self._conn.send(first)

    def _send_first(self, data: bytes) -> None:
        """Send the head, with the beginning of the body; if that is all there is, it may wait for others."""
        conn = self._conn
        whole = (self._mute or self._left == 0) and self.keep_alive and self.body.finished
        if not whole or conn.buffer or conn.tls is not None or not self._outlet.post(conn, data):
            conn.send(data)

    def _frame_as_it_comes(self) -> bytes:
        """Have a body sent whose length nobody knows; return the field that says how."""
        if self._request.http11:
            self._chunked = True
            return b"Transfer-Encoding: chunked\r\n"
        self.delimited_by_close = True
        self.keep_alive = False
        return b""

    def _must_close(self) -> bool:
        """Return whether too much of the request's body is unread to keep the connection; better said than done."""
        body = self.body
        return body.unsolicited or body.failure is not None or body.longer_than(DISCARDED)

    def _end_of_head(self) -> bytes:
        if not self.keep_alive:
            return b"Connection: close\r\n\r\n"
        return b"\r\n" if self._request.http11 else b"Connection: keep-alive\r\n\r\n"

    def _framed(self, data: bytes) -> bytes:
        if self._left is not None:
            if len(data) > self._left:
                self.truncated = self.over = True
                data = data[: self._left]
            self._left -= len(data)
        self.sent += len(data)
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data


def _without_body(code: int, block: bytes, declared: int | None, known: int | None) -> tuple[bytes, bytes]:
    """Return the fields of a response that has no body, and the one that tells how long it would be."""
    if code == 204 and declared is not None:
        return (b"\r\n" + block).replace(b"\r\n" + length_line(declared), b"\r\n")[2:], b""
    # An empty answer to HEAD is no statement about what GET would give.
    return block, length_line(known) if known and declared is None and code not in (204, 304) else b""
