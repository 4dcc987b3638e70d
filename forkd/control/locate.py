"""Which runtime directory a client command means; for clients alone, since it reads YAML."""

from __future__ import annotations

import os

from forkd.config import names
from forkd.config.files import gather
from forkd.config.problems import Problem, Problems
from forkd.config.runtime_dir import default_runtime_dir
from forkd.config.tree import find
from forkd.config.written import Text


def of_config(path: str) -> str:
    """Return the runtime directory that the configuration at `path` names.

    Mistakes elsewhere in it do not matter: one who asks how a launcher is, or would have it refuse a configuration,
    must reach it. Raises ConfigError when the file cannot be read at all, or names no path.
    """
    problems = Problems()
    root = gather(path, os.environ, problems)
    if root is None:
        raise problems.error()
    named = find(root, ("runtime_dir",))
    if named is root:
        return default_runtime_dir()
    if not isinstance(named.value, Text):
        problems.add(Problem(named.place, ("runtime_dir",), "expected a path"))
        raise problems.error()
    return names.path(named.value)
