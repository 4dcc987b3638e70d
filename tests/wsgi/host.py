"""The process that servers under test are forked from: `python -m tests.wsgi.host ENGINE`.

Reads one JSON object a line: `control`, the path of a Unix socket that the fork connects to; `app`, a name in
tests/wsgi/apps.py, or `module:name`; `bind`; `options`; `service`, keyword arguments; `log`, a file; `nofile`; `share`: this
process binds the address, keeps the listener, and all its forks inherit it, as a launcher's workers do; `private`, the
path of a private listener; `shorter`, constants such as `forkd.wsgi.connection.STALL_TIMEOUT` that nobody wants to wait
for, and their values; `level` of the log. The fork says on its control socket where it listens, and then does what it
reads there.
"""

from __future__ import annotations

import sys

from forkd import threadgroup

if __name__ == "__main__":
    threadgroup.prepare(sys.argv[1])

import faulthandler
import importlib
import json
import logging
import os
import resource
import signal
import socket
import threading
import traceback
from typing import Any, NoReturn
from wsgiref.validate import validator

from forkd import scoreboard, sockets
from forkd.core.spec import TlsSpec
from forkd.service import Inheritance, Service
from forkd.wsgi import AccessLogSpec, Options, Server
from tests.wsgi import apps

LONGEST = 600.0  # seconds, of all tests that share it; one that hangs says where


def main(engine: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks are waited for by their control sockets
    kept: dict[str, socket.socket] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["share"] and order["bind"] not in kept:
            listener = sockets.listen(order["bind"], 2048)
            order["bind"] = sockets.label(listener)
            kept[order["bind"]] = listener
        if os.fork() == 0:
            run(engine, order, kept)
        print("forked", flush=True)


def run(engine: str, order: dict[str, Any], listeners: dict[str, socket.socket]) -> NoReturn:
    """Be the fork."""
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in (1, 2):
            os.dup2(log, fd)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        threadgroup.after_fork(engine)
        logging.basicConfig(level=order["level"], force=True)
        if order["nofile"]:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (order["nofile"], hard))
        for constant, value in order["shorter"].items():
            module, _, name = constant.rpartition(".")
            setattr(importlib.import_module(module), name, value)
        serve(engine, order, listeners)
    except BaseException:  # noqa: BLE001 -- whatever it is, the log has to say it
        traceback.print_exc()
    finally:
        os._exit(0)


def serve(engine: str, order: dict[str, Any], listeners: dict[str, socket.socket]) -> None:
    control = socket.socket(socket.AF_UNIX)
    control.connect(order["control"])
    orders = control.makefile("r")
    with scoreboard.created(8) as fd:
        reader, board = scoreboard.Reader(fd), scoreboard.Board(os.dup(fd))
    module, _, name = order["app"].rpartition(":")
    app = getattr(importlib.import_module(module) if module else apps, name)
    if order["validate"]:
        app = validator(app)
    options = Options(**order["options"])
    tls = TlsSpec(**order["options"].get("tls", {}))
    allowed = tuple(options.forwarded_allow_ips)  # JSON has lists alone
    options = options._replace(access_log=AccessLogSpec(*options.access_log), tls=tls, forwarded_allow_ips=allowed)
    server = Server(app, order["bind"], options=options)
    service = Service(server, concurrency=engine, **order["service"])
    if order["private"]:
        listeners[sockets.PRIVATE] = sockets.listen(f"unix:{order['private']}", 16, 0o600)
    service.adopt(Inheritance(listeners=listeners, board=board, stop_timeout=order["stop_timeout"]))
    service.start()
    say(control, json.dumps([sockets.label(service.listeners[address]) for address in server.bind]))
    for line in orders:
        if line == "drain\n":
            threading.Thread(target=service.stop, daemon=True).start()
        elif line == "cut\n":
            threading.Thread(target=service.stop, args=(False,), daemon=True).start()
        elif line == "wait\n":
            service.wait()
            say(control, "stopped")
        elif line == "counters\n":
            say(control, json.dumps(reader.read()._asdict()))
        elif line == "reset\n":
            service.reset()
            say(control, "reset")
        elif line == "cpu\n":
            say(control, str(sum(os.times()[:2])))
        elif line.startswith("open "):
            apps.gate(line[len("open ") : -1]).set()
        elif line == "end\n":
            return


def say(control: socket.socket, line: str) -> None:
    control.sendall(line.encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
