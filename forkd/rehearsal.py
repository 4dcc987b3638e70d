"""What a process rehearses before it is a worker: a service that starts, serves and stops, and reaches nobody.

After a fork both sides share their memory, and the kernel copies each page that one of them writes to. A worker
writes to some 700 pages of the interpreter's and forkd's own until its first answer, at 3 µs each more work than all
the rest of its start. Those of a process that has rehearsed are its own already, and it is never slower for it.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
from typing import TYPE_CHECKING

from forkd import threadgroup
from forkd.crews import crews_of
from forkd.server import Server
from forkd.service import Inheritance, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

_ADDRESS = "rehearsal"
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: rehearsal\r\nAccept: */*\r\n\r\n"
_REQUESTS = 3  # the interpreter writes to code that it runs for the second time, too
_PATIENCE = 1.0  # seconds for what takes 5 ms

_log = logging.getLogger("forkd.rehearsal")


def prepare(concurrency: str) -> None:
    """Import, once for all forks of this process, what each would else import in its rehearsal or its start."""
    if "forkd.rpc.server" in sys.modules:
        crews_of(concurrency)
    if "forkd.wsgi" in sys.modules:
        _wsgi().engine_of(concurrency)
        if "forkd.tls_context" in sys.modules:
            from forkd.wsgi import tls  # noqa: F401 -- as said  # lazy: as the rest of what its ports speak


def rehearse(concurrency: str) -> None:
    """Go through a worker's start, and through requests where the service's code serves WSGI; leave nothing behind.

    Before it the process is a fresh fork, afterwards it is one again: for `threadgroup.after_fork`, and its worker.
    """
    threadgroup.after_fork(concurrency)
    try:
        # Looked up, not imported: what the service does not use would be written to for nothing.
        if "forkd.wsgi" in sys.modules:
            _serve(concurrency)
        else:
            _run(Service(Server(), concurrency=concurrency))
    except Exception:  # noqa: BLE001 -- the service's code may have changed what it builds on; that is for the worker to tell
        _log.warning("the rehearsal of a start failed, so first requests may take longer", exc_info=True)
    gc.collect()  # what came before the fork is frozen; of the rehearsal also descriptors wait for this


def _wsgi() -> ModuleType:
    from forkd import wsgi  # lazy: only a service that serves WSGI pays for the parser

    return wsgi


def _serve(concurrency: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # a name in no directory, given by the kernel
        listener.listen(1)
        listener.setblocking(False)
        service = Service(_wsgi().Server(_application, _ADDRESS), concurrency=concurrency)
        service.adopt(Inheritance({_ADDRESS: listener}))
        _run(service, lambda: _ask(listener.getsockname()))


def _run(service: Service, meanwhile: Callable[[], object] = bool) -> None:
    service.start()
    try:
        meanwhile()
    finally:
        service.stop(graceful=False)


def _ask(address: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_PATIENCE)
        client.connect(address)
        for _ in range(_REQUESTS):
            client.sendall(_REQUEST)
            client.recv(4096)


def _application(_environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
