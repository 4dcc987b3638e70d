"""From the bytes of a connection to a complete request head, which is handed to a thread; it serves none itself.

It runs in the loop and neither blocks nor logs, but for mistakes of its own; see entrance.py.
"""

from __future__ import annotations

import logging
import math
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from forkd.wsgi import proxy
from forkd.wsgi.connection import BUSY, HEAD, IDLE, LINGER, PREFACE
from forkd.wsgi.fields import CLOCK
from forkd.wsgi.forwarded import Proxies
from forkd.wsgi.head import HeadParser, check_partial
from forkd.wsgi.refusal import Refused, TlsFailed, page

if TYPE_CHECKING:
    from forkd.wsgi.access_log import AccessLog
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.connections import Connections
    from forkd.wsgi.engine import Engine
    from forkd.wsgi.options import Options

_log = logging.getLogger("forkd.wsgi")

_RECEIVE_SIZE = 16384  # bytes at a time: to make room for more takes longer, and few heads fill it
_CR = 0x0D
_EMPTY_LINE = b"\r\n\r\n"
# Before a request line: RFC 9112, section 2.2. Some clients send one behind a body that nobody told them to end so.
_BLANK_LINES = re.compile(rb"(?:\r\n)*(?:\r\Z)?")
_MOST_BLANK = 2 * 20  # bytes


class Intake:
    """Reads heads; a connection whose head is complete is BUSY, and no longer the loop's.

    Before the first head it reads the PROXY header of a connection that owes one.
    """

    def __init__(
        self, engine: Engine, options: Options, connections: Connections, access_log: AccessLog | None
    ) -> None:
        self.connections = connections
        self.proxies = Proxies(options.forwarded_allow_ips)
        self._access_log = access_log
        self._engine = engine
        self._submit = engine.crew.submit
        self._header_timeout = options.header_timeout or math.inf
        self._header_limit = options.header_limit
        self._options = options
        self._parser = HeadParser(options)

    def readable(self, conn: Connection) -> bool:
        """As in `Reception`; return whether the connection is the loop's still."""
        try:
            return self._read(conn) and self.connections.go_on(conn)
        except TlsFailed as failure:
            return self._fail(conn, failure)
        except Exception:  # noqa: BLE001 -- a mistake of ours costs this connection, not the loop
            _log.exception("a connection stumbled")
            self.connections.close(conn)
            return False

    def resume(self, conn: Connection) -> None:
        """Go on with the bytes that came behind a request, now that it is answered."""
        if self._advance(conn) and self.connections.go_on(conn):
            self._engine.loop.watch(conn)

    def expire(self, conn: Connection) -> None:
        """End a connection whose deadline has passed."""
        if conn.state == HEAD:
            if self._refuse(conn, 408, conn.buffer):
                self._engine.loop.watch(conn)
        elif conn.state == LINGER:
            self.connections.close(conn)
        elif conn.upgraded is not None:
            conn.deadline = math.inf
            conn.upgraded.end_input()
        elif self._engine.outlet.holds(conn):
            return  # it is about to be written to: the next time
        # A request may have come just now, while the loop was at something else.
        elif conn.state in (IDLE, PREFACE) and self.readable(conn):
            if conn.state in (IDLE, PREFACE):
                self.connections.close(conn)
            else:
                self._engine.loop.watch(conn)

    def admit(self, conn: Connection, received: bytes = b"") -> bool:
        """Let a connection begin, behind the PROXY header if it owed one; return whether to watch it.

        From here on it is what it is to be. `received` is what came behind that header, and belongs to what follows.
        """
        conn.state = IDLE
        if conn.listener.tls is not None:
            conn.secure(conn.listener.tls, received)
            return self._read(conn) if received else True
        if not received:
            return True
        conn.buffer = bytearray(received)
        return self._advance(conn)

    def _read(self, conn: Connection) -> bool:
        if conn.state == LINGER:
            return self.connections.drop_bytes(conn)
        try:
            data = conn.sock.recv(_RECEIVE_SIZE)
        except BlockingIOError:
            return True
        except TlsFailed:
            raise  # to `readable`: this is not the client's end
        except OSError:
            data = b""
        if not data:
            self.connections.close(conn)
            return False
        if conn.state == PREFACE:
            return self._introduce(conn, data)
        # Nearly always a packet is a whole head, and nothing else.
        one = 4 <= data.find(_EMPTY_LINE) + 4 == len(data) <= self._header_limit
        if one and conn.buffer is None and data[0] != _CR:
            return self._begin(conn, data)
        conn.buffer = conn.buffer or bytearray()
        conn.buffer += data
        return self._advance(conn)

    def _introduce(self, conn: Connection, data: bytes) -> bool:
        """Learn by the PROXY header, once it is whole, who speaks; return whether to watch the connection."""
        received = bytes(conn.buffer or b"") + data
        try:
            header = proxy.parse(received)
        except proxy.HeaderRefused as refused:
            if refused.http:
                return self._refuse(conn, 400, received, proxy.EXPECTED)
            self.connections.close(conn)
            return False
        if header is None:
            conn.buffer = bytearray(received)
            return True
        conn.buffer = None
        _set_peer(conn, header, self.proxies)
        return self.admit(conn, received[header.size :])

    def _advance(self, conn: Connection) -> bool:
        """Begin the request whose head is in the buffer, if it is whole; return whether to watch the connection."""
        buffer = conn.buffer
        assert buffer is not None  # noqa: S101 -- for the type checker
        blank = len(_BLANK_LINES.match(buffer)[0])  # type: ignore[index]  # it matches anything
        if blank > _MOST_BLANK:
            return self._refuse(conn, 400, buffer)
        if blank == len(buffer):
            return self._stay_idle(conn)
        del buffer[:blank]
        end = buffer.find(_EMPTY_LINE) + 4
        if 4 <= end <= self._header_limit:
            head = bytes(buffer[:end])
            del buffer[:end]
            return self._begin(conn, head)
        try:
            check_partial(buffer, self._options)
        except Refused as refused:
            return self._refuse(conn, refused.status, buffer)
        if conn.state != HEAD:
            conn.deadline = time.monotonic() + self._header_timeout
            conn.state = HEAD
        return True

    def _stay_idle(self, conn: Connection) -> bool:
        """Go on waiting for a request, with blank lines in the buffer; return whether to watch the connection."""
        if conn.state != BUSY:
            return True
        self.connections.keep(conn, time.monotonic())
        return False

    def _begin(self, conn: Connection, head: bytes) -> bool:
        try:
            request = self._parser.parse(head, conn.prepared)
        except Refused as refused:
            return self._refuse(conn, refused.status, head)
        environ = request.environ
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = conn.peer
        if ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_X_FORWARDED_PROTO" in environ) and self._believes(conn):
            self.proxies.interpret(environ)
        if self._access_log is not None:
            sent = environ.get("HTTP_X_REQUEST_ID", "")
            environ["forkd.request_id"] = self._access_log.ids.of(sent if sent and self._believes(conn) else "")
        conn.request = request
        conn.deadline = math.inf
        conn.state = BUSY
        # A health check goes first: that many wait makes no worker unhealthy. Another protocol is likely to take long.
        slow = conn.private or request.upgrades
        self._submit(conn, urgent=conn.private, slow=slow)
        return False

    def _believes(self, conn: Connection) -> bool:
        """Return whether who speaks on a connection is believed what it says of its own clients and their requests."""
        if conn.believed is None:
            conn.believed = conn.peer[0] in self.proxies
        return conn.believed

    def _fail(self, conn: Connection, failure: TlsFailed) -> bool:
        """End a connection without TLS so that the client can read why; return whether to watch it."""
        if _log.isEnabledFor(logging.DEBUG):
            self._engine.aside(_log.debug, "TLS with %s: %s", conn.peer[0], failure)
        return self.connections.linger(conn)

    def _refuse(self, conn: Connection, status: int, start: bytes | bytearray | None, reason: str = "") -> bool:
        """Answer a head, or its start, with an error of ours, and no more requests; return whether to watch on."""
        with suppress(OSError):  # a client that takes not even this gets nothing
            conn.sock.send(page(status, CLOCK.block(), reason))
        if self._access_log is not None and not conn.private:
            self._access_log.refused(conn, status, start or b"", reason)
        return self.connections.linger(conn)


def _set_peer(conn: Connection, header: proxy.Header, proxies: Proxies) -> None:
    """Make the client that a PROXY header names the peer; SERVER_NAME and SERVER_PORT stay the listener's.

    Whether its X-Forwarded-* are believed is a matter of that client, since a proxy that sends such a header mostly
    hands on what follows as it is: a client could put there whom it wants to be. That all who connect are believed does
    not make those believed whom they speak for.
    """
    if header.source is not None and header.destination is not None:
        conn.peer = header.source
        conn.believed = proxies.names(header.source[0])
        address, port = header.destination
        # As gunicorn calls them.
        conn.prepared = conn.prepared | {"PROXY_PROTOCOL": header.protocol, "PROXY_ADDR": address, "PROXY_PORT": port}
    elif header.protocol == "UNKNOWN":
        conn.believed = False
