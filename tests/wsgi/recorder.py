"""An application that remembers what it has seen on each connection, and tells it whoever asks on another one."""

from __future__ import annotations

import json
from typing import Any

ASK = "/~seen/"
"""The target, with the port of a client behind it, by which to ask; what is told is forgotten."""

_seen: dict[str, list[dict[str, Any]]] = {}


def record(environ, start):
    if environ["RAW_URI"].startswith(ASK):
        return _answer(start, json.dumps(_seen.pop(environ["RAW_URI"][len(ASK) :], [])).encode())
    seen = {key: environ[key] for key in environ if type(environ[key]) is str}
    seen["body"] = None
    _seen.setdefault(environ["REMOTE_PORT"], []).append(seen)
    if not environ["PATH_INFO"].startswith("/leave"):
        seen["body"] = environ["wsgi.input"].read().decode("latin-1")
    return _answer(start, b"seen\n")


def _answer(start, body: bytes) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [body]
