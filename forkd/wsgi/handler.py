"""The threads' side of the server: one request, from its environ to what becomes of its connection."""

from __future__ import annotations

import logging
import struct
import time
from _socket import SO_LINGER, SOL_SOCKET
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from forkd.scoreboard import Board
from forkd.threadgroup import Stopped
from forkd.wsgi.body import body_of
from forkd.wsgi.causes import causes
from forkd.wsgi.client_socket import ClientSocket
from forkd.wsgi.fields import CLOCK
from forkd.wsgi.origin import Origin
from forkd.wsgi.refusal import BodyRefused, ClientGone, page, text
from forkd.wsgi.response import DISCARDED, Response
from forkd.wsgi.upgrade import Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forkd.overruns import Overruns
    from forkd.wsgi.access_log import AccessLog
    from forkd.wsgi.body import Body, NoBody
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.engine import Engine
    from forkd.wsgi.head import Request
    from forkd.wsgi.intake import Intake
    from forkd.wsgi.options import Options

    Application = Callable[..., Iterable[bytes]]

_log = logging.getLogger("forkd.wsgi")

_RESET = struct.pack("ii", 1, 0)

# What becomes of a connection: another request, an orderly end, or one by which the client can tell that it failed.
_KEEP, _CLOSE, _CUT = range(3)


class Handler:
    """Runs the application for one request after another, of any connection, in any number of threads at once."""

    def __init__(
        self,
        app: Application,
        options: Options,
        board: Board,
        overruns: Overruns | None,
        access_log: AccessLog | None,
    ) -> None:
        self._app = app
        self._overruns = overruns
        self._access_log = access_log
        self._body_limit = options.body_limit
        self._board = board
        self._unseen = Board()  # which counts what is asked at the private listener: it is none of the service's work

    def settle(self, engine: Engine, intake: Intake) -> None:
        """Take the parts that it gives connections back to; before the first request."""
        self._origin = Origin()
        self._loop = engine.loop
        self._outlet = engine.outlet
        self._resume = intake.resume
        self._connections = intake.connections

    def serve(self, conn: Connection) -> None:
        """Serve a connection's request, and give the connection back or end it."""
        request = conn.request
        if request is None:
            self._send_rest(conn)
            return
        conn.request = None
        body = request.environ["wsgi.input"] = body_of(conn, request, self._body_limit)
        response = Response(conn, request, body, self._connections, self._outlet)
        row = (self._unseen if conn.private else self._board).row()
        row.started()
        overruns = self._overruns
        number = 0 if overruns is None else overruns.begin(request.name)
        upgrade = self._offer(conn, request, response, number) if request.upgrades and body.finished else None
        began = time.monotonic()
        ending, failed = _CUT, True
        try:
            ending, failed = self._run(conn, request, response)
        finally:
            now = time.monotonic()
            response.over = True
            if not body.finished:
                body.abandon()
            row.finished(now - began, failed)
            if overruns is not None:
                overruns.end(number)
            if self._access_log is not None and not conn.private:
                whole = ending != _CUT and (response.begun or not failed)
                self._access_log.served(request, response, began, now - began, failed=not whole)
            if (rest := self._outlet.take(conn, stays=ending == _KEEP)) and not self._delivers(conn, rest):
                ending = _CUT
            if upgrade is not None and upgrade.finish():
                ending = _CUT if conn.gone else _CLOSE
            if ending == _KEEP:
                self._keep(conn, now)
            elif ending == _CUT:
                self._cut(conn, response)
            else:
                self._close(conn, request, body)

    def _send_rest(self, conn: Connection) -> None:
        """Send what the client of a response that is over did not take at once, and give the connection back."""
        rest, conn.rest = conn.rest, b""
        if self._delivers(conn, rest):
            self._keep(conn, time.monotonic())

    def _delivers(self, conn: Connection, data: bytes) -> bool:
        """Send what is left of a response that is over; return whether the client takes it. If not, it is cut off.

        So it is by whatever else ends the wait, such as an `eventlet.Timeout` that the application has forgotten.
        """
        sent = False
        try:
            conn.send(data)
            sent = True
        except ClientGone:
            pass
        finally:
            if not sent:
                self._connections.close(conn)
        return sent

    def _keep(self, conn: Connection, now: float) -> None:
        if conn.buffer:
            self._loop.call(self._resume, conn)
        else:
            self._connections.keep(conn, now)

    def _offer(self, conn: Connection, request: Request, response: Response, number: int) -> Upgrade:
        """Let the application have the connection for another protocol, if it wants it, and for as long as it likes."""
        overruns = self._overruns
        unwatch = partial(overruns.end, number) if overruns is not None else None
        upgrade = Upgrade(conn, response, self._connections, unwatch)
        # Libraries look where a few servers keep it; of those, Werkzeug's is the one that wants nothing else done.
        request.environ["forkd.socket"] = request.environ["werkzeug.socket"] = ClientSocket(upgrade)
        return upgrade

    def _run(self, conn: Connection, request: Request, response: Response) -> tuple[int, bool]:
        """Return what becomes of the connection, and whether the application failed."""
        try:
            result = self._app(request.environ, response.start)
            self._origin.hold(request)
            try:
                response.send(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except (Stopped, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 -- eventlet.Timeout is one, and sys.exit() must not end a worker
            self._origin.hold(request, error)
            return self._explain(conn, request, response, error)
        if response.truncated:
            _log.error("%s: the body differs in length from its Content-Length", request.name)
            return _CUT, True
        body = response.body
        keep = response.keep_alive and (body.finished or body.discard(DISCARDED))
        return _KEEP if keep else _CLOSE, response.code >= 500

    def _explain(
        self, conn: Connection, request: Request, response: Response, error: BaseException
    ) -> tuple[int, bool]:
        """Tell the client, as far as that is possible, and the log that a request has failed."""
        refusal = response.body.failure
        if (gone := _lost_client(error)) is not None:
            _log.debug("%s: the client is gone", request.name)
            response.sent = max(0, response.sent - gone.unsent)
            return _CUT, False
        if conn.upgraded is not None and conn.upgraded.caused(error):
            return _CLOSE, False
        if not isinstance(refusal, BodyRefused):
            _log.error("%s failed", request.name, exc_info=error)
        else:
            _log.info("%s refused: %s", request.name, refusal)
        if response.begun or conn.gone or conn.upgraded is not None:
            return _CUT, True
        status = refusal.status if isinstance(refusal, BodyRefused) else 500
        mute = request.method == "HEAD"
        try:
            conn.send(page(status, CLOCK.block(), mute=mute))
        except ClientGone:
            return _CUT, True
        response.code, response.sent = status, 0 if mute else len(text(status))
        return _CLOSE, status == 500

    def _close(self, conn: Connection, request: Request, body: Body | NoBody) -> None:
        """End a connection so that the client gets all of the response."""
        try:
            conn.end()
        except ClientGone:
            self._connections.close(conn)
            return
        if not request.keep_alive and body.finished and not conn.buffer and _is_quiet(conn):
            self._connections.close(conn)
        else:
            self._connections.linger_on(conn)

    def _cut(self, conn: Connection, response: Response) -> None:
        if conn.tls is not None:
            conn.tls.cut()
        if response.delimited_by_close:
            # An orderly end would look like that of the response.
            with suppress(OSError):
                conn.sock.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
        self._connections.close(conn)


def _lost_client(error: BaseException) -> ClientGone | None:
    """Return the loss of a client that an error is, or came while handling: no fault of the application."""
    return next((each for each in causes(error) if isinstance(each, ClientGone)), None)


def _is_quiet(conn: Connection) -> bool:
    """Return whether the client, which said that this was its last request, has sent nothing more."""
    try:
        return not conn.sock.recv(1)
    except OSError:  # mostly that there is nothing to read
        return True
