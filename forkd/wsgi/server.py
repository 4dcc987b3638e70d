"""The WSGI server: it puts listeners, intake, engine and handler together, and takes them down in the right order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from forkd import __version__, sockets
from forkd.core.spec import TlsSpec
from forkd.errors import ForkdError
from forkd.overruns import watched
from forkd.server import Server as BaseServer
from forkd.wsgi.access_log import AccessLog
from forkd.wsgi.connections import Connections
from forkd.wsgi.engine import Reception
from forkd.wsgi.entrance import Entrance
from forkd.wsgi.handler import Handler
from forkd.wsgi.intake import Intake
from forkd.wsgi.listener import Listener
from forkd.wsgi.options import Options
from forkd.wsgi.wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ssl import SSLContext

    from forkd.service import Service
    from forkd.threadgroup import ThreadGroup
    from forkd.wsgi.connection import Connection
    from forkd.wsgi.engine import Engine
    from forkd.wsgi.handler import Application
    from forkd.wsgi.tls import Tls

    CreateEngine = Callable[[ThreadGroup, Callable[[Connection], None]], Engine]

_SHORTEST_PATIENCE = 1.0  # seconds that a client which connected just before a drain has for its request
_AT_ONCE = 1.0  # seconds that closing everything may take; it takes none, unless the loop is held up


class Server(BaseServer):
    """Serves a WSGI application; each request runs in a thread of the service's thread group.

    `bind` is an address or several: `host:port`, `[::1]:port`, `unix:/path`. It starts once, and stops once.
    """

    def __init__(
        self,
        app: Application,
        bind: str | Iterable[str],
        *,
        options: Options | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        """Take what is served, and where; `tls` is what the ports speak, unless the files of `options.tls` are to tell.

        Raise `ForkdError` when those are of no use.
        """
        super().__init__()
        self.app = app
        self.bind = (bind,) if isinstance(bind, str) else tuple(bind)
        self.options = options or Options()
        self._access_log: AccessLog | None = None
        self._tls = _tls(self.options.tls, tls)
        self._listeners: list[Listener] = []
        self._engine: Engine | None = None
        self._stopped = False

    def init(self, service: Service) -> None:
        """Open the listeners and the access log; raise `ForkdError` when an address or the file cannot be had."""
        super().init(service)
        if not self.bind:
            raise ForkdError("a WSGI server needs an address to listen on: bind")
        common = _common_environ(multithread=service.thread_group.limit > 1)
        for address in self.bind:
            sock = service.listen(address, self.options.backlog, reuse_port=self.options.reuse_port)
            self._listeners.append(Listener(sock, common, tls=self._tls))
        if (private := service.listeners.get(sockets.PRIVATE)) is not None:
            self._listeners.append(Listener(private, common, private=True))
        if self.options.access_log.file:
            self._access_log = AccessLog(self.options.access_log, service)

    def start(self) -> None:
        """Begin to accept connections."""
        service = self.service
        if service is None:
            raise ForkdError("the server is started before its init(service)")
        group = service.thread_group
        self._group = group
        self._empty = group.event()
        overruns = watched(service, "request")
        handler = Handler(self.app, self.options, service.board, overruns, self._access_log)
        engine = self._engine = engine_of(group.concurrency)(group, handler.serve)
        self._connections = Connections(engine.loop, self.options, self._empty)
        intake = Intake(engine, self.options, self._connections, self._access_log)
        self._entrance = Entrance(engine, self.options, intake)
        handler.settle(engine, intake)
        engine.loop.start(Reception(self._entrance.acceptable, intake.readable, self._entrance.sweep))
        if overruns is not None:
            overruns.start()
        engine.loop.call(self._entrance.open, self._listeners)

    def stop(self, graceful: bool = True) -> None:
        """Close the listeners in this process; graceful: return when the last connection has ended.

        Requests in flight are finished, and an idle connection stays open until its `keepalive_timeout`: a client
        that sends another request on it is answered, and told to come back by a new connection.
        """
        if self._engine is None:
            for listener in self._listeners:
                listener.close()
            return
        if graceful:
            self._engine.loop.call(self._drain)
            self._empty.wait()
        if not self._stopped:
            self._stopped = True
            self._end(self._engine)
            if self._access_log is not None:
                self._access_log.flush(0)

    def wait(self) -> None:
        """As in `forkd.Server`: by now every line of the access log is noted that ever will be."""
        if self._access_log is not None:
            self._access_log.close()

    def reopen(self) -> None:
        """As in `forkd.Server`."""
        if self._access_log is not None:
            self._access_log.reopen()

    def reset(self) -> None:
        """Open the access log anew, and read the files of `options.tls` for the connections that are yet to come."""
        self.reopen()
        if self._tls is not None:
            self._tls.renew()

    def _drain(self) -> None:
        """In the loop: take nothing new."""
        self._entrance.close(accept=True)
        patience = max(self.options.keepalive_timeout, _SHORTEST_PATIENCE)
        limit = self.service.stop_timeout if self.service is not None else 0
        most = limit / 2 if limit else patience
        self._connections.drain(min(patience, most), most)
        self._entrance.sweep()

    def _end(self, engine: Engine) -> None:
        """Cut what is left, in the loop, and then end the loop."""
        done = self._group.event()

        def cut() -> None:
            self._entrance.close(accept=False)
            engine.outlet.flush()  # nothing may be closed that is about to be written to
            self._connections.cut()
            self._empty.set()
            done.set()

        engine.loop.call(cut)
        done.wait(_AT_ONCE)
        engine.loop.stop()
        engine.crew.dismiss()


def engine_of(concurrency: str) -> CreateEngine:
    """Import the engine of a concurrency and return what creates it: done before a fork, its workers need not."""
    if concurrency == "eventlet":
        from forkd.wsgi import eventlet_engine  # lazy: only an eventlet service may import eventlet

        return eventlet_engine.create
    from forkd.wsgi import native_engine  # lazy: the other engine, likewise imported only where it is used

    return native_engine.create


def _tls(spec: TlsSpec, context: SSLContext | None) -> Tls | None:
    if context is None and spec == TlsSpec():
        return None
    from forkd.wsgi.tls import Tls  # lazy: only ports that speak TLS pay for OpenSSL

    return Tls(spec, context)


def _common_environ(*, multithread: bool) -> dict[str, Any]:
    return {
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": f"forkd/{__version__}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }
