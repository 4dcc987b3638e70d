"""Which runtime directory and which transport a client command means; for clients alone, since it reads YAML."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forkd.config import names
from forkd.config.files import gather
from forkd.config.problems import Problem, Problems
from forkd.config.runtime_dir import default_runtime_dir
from forkd.config.tree import find
from forkd.config.written import Text

if TYPE_CHECKING:
    from forkd.config.tree import Node


def of_config(path: str) -> str:
    """Return the runtime directory that the configuration at `path` names.

    Mistakes elsewhere in it do not matter: one who asks how a launcher is, or would have it refuse a configuration,
    must reach it. Raises ConfigError when the file cannot be read at all, or names no path.
    """
    problems = Problems()
    root = _gather(path, problems)
    named = find(root, ("runtime_dir",))
    if named is root:
        return default_runtime_dir()
    if not isinstance(named.value, Text):
        problems.add(Problem(named.place, ("runtime_dir",), "expected a path"))
        raise problems.error()
    return names.path(named.value)


def transport_of(path: str, topic: str) -> str:
    """Return the transport of the service that the configuration has for the topic; `local` where none does.

    Mistakes elsewhere do not matter, as above. Raises ConfigError when the file cannot be read at all.
    """
    root = _gather(path, Problems())
    services = find(root, ("services",)).value
    for name in services if isinstance(services, dict) else ():
        if _setting(root, name, "topic") == topic:
            return _setting(root, name, "transport") or "local"
    return "local"


def _setting(root: Node, service: str, key: str) -> str | None:
    """Return a service's text for a key, its own or that of `defaults`."""
    for place in (("services", service, key), ("defaults", key)):
        found = find(root, place)
        if isinstance(found.value, Text):
            return str(found.value)
    return None


def _gather(path: str, problems: Problems) -> Node:
    root = gather(path, os.environ, problems)
    if root is None:
        raise problems.error()
    return root
