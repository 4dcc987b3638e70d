"""forkd: the daemon that runs Python services in many processes. This façade imports each name at its first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forkd import rpc, wsgi
    from forkd.launcher import Launcher, ProcessLauncher, ServiceLauncher
    from forkd.periodic import periodic_task
    from forkd.server import Server
    from forkd.service import Service
    from forkd.threadgroup import ThreadGroup

__version__ = "0.1.0"

_HOMES = {
    "Launcher": "forkd.launcher",
    "ProcessLauncher": "forkd.launcher",
    "ServiceLauncher": "forkd.launcher",
    "Server": "forkd.server",
    "Service": "forkd.service",
    "ThreadGroup": "forkd.threadgroup",
    "periodic_task": "forkd.periodic",
    "rpc": "forkd.rpc",
    "wsgi": "forkd.wsgi",
}

__all__ = [
    "Launcher",
    "ProcessLauncher",
    "Server",
    "Service",
    "ServiceLauncher",
    "ThreadGroup",
    "periodic_task",
    "rpc",
    "wsgi",
]


def __getattr__(name: str) -> Any:
    # The launcher and the client commands import `forkd` and must stay small: nothing here may import at once.
    if name not in _HOMES:
        msg = f"module 'forkd' has no attribute {name!r}"
        raise AttributeError(msg)
    home = importlib.import_module(_HOMES[name])
    return home if home.__name__ == f"forkd.{name}" else getattr(home, name)
