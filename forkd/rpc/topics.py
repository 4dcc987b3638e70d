"""Where a topic's sockets are: `RUNTIME_DIR/rpc/TOPIC/SLOT.sock`; touches nothing there."""

from __future__ import annotations

import os
import re

from forkd.errors import ForkdError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SUFFIX = ".sock"


def runtime_dir() -> str:
    """Return the runtime directory where nobody names one: that of the environment, else the user's or the system's."""
    if found := os.environ.get("FORKD_RUNTIME_DIR"):
        return found
    # systemd joins several directories by colons: systemd.exec(5), RuntimeDirectory=.
    if found := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return found
    if os.geteuid() == 0:
        return "/run/forkd"
    user = os.environ.get("XDG_RUNTIME_DIR")
    return f"{user}/forkd" if user else f"/tmp/forkd-{os.geteuid()}"  # noqa: S108 -- the launcher makes it 0700


def directory(topic: str, runtime: str | None = None) -> str:
    """Return the directory of a topic's sockets; raise `ForkdError` for what is no topic's name."""
    if not _NAME.fullmatch(topic):
        raise ForkdError(f"{topic!r:.80} is no topic: expected letters, digits and _.- only, the first of them no dot")
    return os.path.join(runtime or runtime_dir(), "rpc", topic)
