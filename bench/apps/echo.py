"""What remote calls are measured with: a method that returns what it got, one that takes a while, one that says who."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from forkd import rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

NAP = 0.005  # seconds that `nap` takes, as a method that asks a database does


def echo(**args: Any) -> dict[str, Any]:
    """Return the arguments."""
    return args


def nap(**args: Any) -> dict[str, Any]:
    """Return the arguments, later."""
    time.sleep(NAP)
    return args


def pid(**_: Any) -> dict[str, Any]:
    """Return which process answers."""
    return {"pid": os.getpid()}


METHODS: dict[str, Callable[..., dict[str, Any]]] = {"echo": echo, "nap": nap, "pid": pid}


class Echo(rpc.Server):
    """The same for forkd."""

    topic = "echo"

    echo = staticmethod(echo)
    nap = staticmethod(nap)
    pid = staticmethod(pid)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve them as JSON over HTTP: POST /METHOD with the arguments."""
    args = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    body = json.dumps(METHODS[environ["PATH_INFO"][1:]](**args)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
