"""What WSGI servers are measured with: answers that cost the application as little as they can."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

PIECE = 65536
LENGTH = 1 << 20  # of what is sent up and down
NAP = 0.2  # seconds that a slow request sleeps

_HELLO = b"Hello world!"
_PAGE = b"<p>ten KiB</p>\n".ljust(10240, b".")
_PIECE = bytes(PIECE)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer as the path says."""
    path = environ["PATH_INFO"]
    if path == "/":
        return _whole(_HELLO, start_response)
    if path == "/page":
        return _whole(_PAGE, start_response)
    if path == "/slow":
        time.sleep(NAP)
        return _whole(_HELLO, start_response)
    if path == "/upload":
        return _whole(b"%d" % _received(environ), start_response)
    if path == "/download":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(LENGTH))])
        return _pieces()
    return _whole(b"%d" % os.getpid(), start_response)


def _whole(body: bytes, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _received(environ: WSGIEnvironment) -> int:
    """Read the body as an application does that keeps none of it; return how long it is."""
    left = total = int(environ["CONTENT_LENGTH"])
    while left and (piece := environ["wsgi.input"].read(min(PIECE, left))):
        left -= len(piece)
    return total - left


def _pieces() -> Iterator[bytes]:
    for _ in range(LENGTH // PIECE):
        yield _PIECE
