"""Remote calls: `rpc.Server` serves a topic, `Client` and `AsyncClient` call it; each is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forkd.rpc.errors import (
    BadArguments,
    BrokerUnavailable,
    Busy,
    NoSuchMethod,
    NoSuchTopic,
    NoSuchWorker,
    NotAllowed,
    RemoteError,
    RpcError,
    Timeout,
    WorkerLost,
    WrongVersion,
)

if TYPE_CHECKING:
    from forkd.rpc.async_client import AsyncClient
    from forkd.rpc.client import Client
    from forkd.rpc.methods import idempotent
    from forkd.rpc.server import Server

__all__ = [
    "AsyncClient",
    "BadArguments",
    "BrokerUnavailable",
    "Busy",
    "Client",
    "NoSuchMethod",
    "NoSuchTopic",
    "NoSuchWorker",
    "NotAllowed",
    "RemoteError",
    "RpcError",
    "Server",
    "Timeout",
    "WorkerLost",
    "WrongVersion",
    "idempotent",
]

_HOMES = {
    "AsyncClient": "forkd.rpc.async_client",
    "Client": "forkd.rpc.client",
    "Server": "forkd.rpc.server",
    "idempotent": "forkd.rpc.methods",
}


def __getattr__(name: str) -> Any:
    # A script or a command that only calls must not load what serves, nor the other way round.
    if name not in _HOMES:
        msg = f"module 'forkd.rpc' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)
