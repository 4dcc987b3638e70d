"""The process of a server that is fuzzed: `python -m tests.wsgi.fuzz.server ENGINE FD`; see `stage.py`."""

from __future__ import annotations

import sys

from forkd import threadgroup

if __name__ == "__main__":
    threadgroup.prepare(sys.argv[1])

import faulthandler
import logging
import socket

from forkd import sockets
from forkd.service import Service
from forkd.wsgi import Options, Server
from tests.wsgi.fuzz import model
from tests.wsgi.recorder import record

KEEPALIVE = 60.0  # the healthy client's connection is there as long as anybody counts descriptors
THREADS = 200  # more than there are clients at once: one that waits for its body holds one


def main(engine: str, control: socket.socket) -> None:
    """Serve until the other end of `control` is closed."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO)
    options = Options(
        forwarded_allow_ips=(),  # the application tells clients apart by their ports
        keepalive_timeout=KEEPALIVE,
        request_line_limit=model.LINE_LIMIT,
        header_limit=model.HEAD_LIMIT,
        body_limit=model.BODY_LIMIT,
    )
    server = Server(record, "127.0.0.1:0", options=options)
    service = Service(server, concurrency=engine, threads=THREADS)
    service.start()
    control.sendall(sockets.label(service.listeners[server.bind[0]]).encode())
    control.recv(1)


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
