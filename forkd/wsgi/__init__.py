"""Serves a WSGI application over HTTP/1.1; knows nothing of processes."""

from __future__ import annotations

from forkd.core.spec import AccessLogSpec, TlsSpec
from forkd.wsgi.options import Options
from forkd.wsgi.server import Server, engine_of

__all__ = ["AccessLogSpec", "Options", "Server", "TlsSpec", "engine_of"]
