"""Where the runtime directory is unless somebody names one, and what is where in it; cheap for every command."""

from __future__ import annotations

import os


def present_runtime_dir() -> str:
    """Return $FORKD_RUNTIME_DIR, which a launcher's own services have, else the default one."""
    return os.environ.get("FORKD_RUNTIME_DIR") or default_runtime_dir()


def default_runtime_dir() -> str:
    """Return $RUNTIME_DIRECTORY, /run/forkd for root, $XDG_RUNTIME_DIR/forkd, or /tmp/forkd-UID; it creates none."""
    # systemd joins several directories by colons: systemd.exec(5), RuntimeDirectory=.
    if given := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return given
    if os.geteuid() == 0:
        return "/run/forkd"
    if of_user := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{of_user}/forkd"
    return f"/tmp/forkd-{os.geteuid()}"  # noqa: S108 -- its owner and mode are checked by who creates it


def health_socket(runtime_dir: str, id: int) -> str:
    """Return where the worker with this id is asked how it is."""
    return f"{runtime_dir}/health/{id}.sock"


def locks_dir(runtime_dir: str, uid: int) -> str:
    """Return where a user's workers keep the locks of their periodic tasks, so that no other user can take them."""
    return f"{runtime_dir}/periodic/{uid}"
