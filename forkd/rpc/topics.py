"""Where a topic's sockets are: `RUNTIME_DIR/rpc/TOPIC/SLOT.sock`; touches nothing there."""

from __future__ import annotations

import os
import re

from forkd.config.runtime_dir import present_runtime_dir
from forkd.errors import ForkdError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # as in a configuration
SUFFIX = ".sock"


def directory(topic: str, runtime: str | None = None) -> str:
    """Return the directory of a topic's sockets; raise `ForkdError` for what is no topic's name."""
    return os.path.join(runtime or present_runtime_dir(), "rpc", check(topic))


def check(topic: str) -> str:
    """Return a topic; raise `ForkdError` for what is no topic's name."""
    if not _NAME.fullmatch(topic):
        raise ForkdError(f"{topic!r:.80} is no topic: expected 1 to 64 letters, digits and _.-, not - or . first")
    return topic
