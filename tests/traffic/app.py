"""The application that traffic asks: bytes that follow from the path, at once or slowly, and the digest of what it is sent."""

from __future__ import annotations

import hashlib
import os
import random
import threading

PAUSE = 0.03  # seconds between two pieces of what flows


def content(seed: int, size: int) -> bytes:
    block = random.Random(seed).randbytes(min(size, 65521))
    return (block * (size // 65521 + 1))[:size]


def application(environ, start):
    """`/whole/SEED/SIZE`; `/flow/SEED/SIZE/PIECES` and `/gated/SEED/SIZE`, of no announced length; `/digest`."""
    kind, *numbers = environ["PATH_INFO"].strip("/").split("/")
    headers = [("Content-Type", "application/octet-stream"), ("X-Worker", str(os.getpid()))]
    if kind in STREAMS:
        seed, size, *more = map(int, numbers)
        start("200 OK", headers)
        return STREAMS[kind](content(seed, size), *more)
    body = digest(environ["wsgi.input"]) if kind == "digest" else content(*map(int, numbers))
    start("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def flow(data: bytes, pieces: int):
    step = -(-len(data) // pieces)
    for at in range(0, len(data), step):
        yield data[at : at + step]
        threading.Event().wait(PAUSE)


def gated(data: bytes):
    """Yield the first byte, and the rest when there is a file `go` where the process runs."""
    yield data[:1]
    while not os.path.exists("go"):
        threading.Event().wait(PAUSE)
    yield data[1:]


STREAMS = {"flow": flow, "gated": gated}


def digest(body) -> bytes:
    found = hashlib.sha256()
    while piece := body.read(16384):
        found.update(piece)
    return found.hexdigest().encode()
