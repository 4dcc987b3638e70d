"""Serves by a server that is a library: `python -m bench.hosts eventlet|bjoern|fastwsgi APP PORT WORKERS`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 2048


def eventlet(app: str, port: int, workers: int) -> None:
    """Serve by eventlet.wsgi, in processes that accept from one listener."""
    import eventlet  # lazy: one server is imported, no other
    import eventlet.wsgi

    eventlet.monkey_patch()
    listener = eventlet.listen((HOST, port), backlog=BACKLOG)
    application = _loaded(app)
    _fork(workers)
    eventlet.wsgi.server(listener, application, log_output=False)


def bjoern(app: str, port: int, workers: int) -> None:
    """Serve by bjoern, in processes that accept from one listener."""
    import bjoern  # lazy: as above

    bjoern.listen(_loaded(app), HOST, port, listen_backlog=BACKLOG)
    _fork(workers)
    bjoern.run()


def fastwsgi(app: str, port: int, workers: int) -> None:
    """Serve by fastwsgi, which forks by itself."""
    import fastwsgi  # lazy: as above

    fastwsgi.run(_loaded(app), HOST, port, workers=workers)


def _loaded(app: str) -> Any:
    module, _, name = app.partition(":")
    return getattr(importlib.import_module(module), name)


def _fork(workers: int) -> None:
    """Go on in so many processes, this one among them."""
    for _ in range(workers - 1):
        if os.fork() == 0:
            return


def main() -> None:
    """Serve until killed."""
    kind, app, port, workers = sys.argv[1:]
    {"eventlet": eventlet, "bjoern": bjoern, "fastwsgi": fastwsgi}[kind](app, int(port), int(workers))


if __name__ == "__main__":
    main()
