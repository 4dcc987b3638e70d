"""Deaths for want of memory: how many the kernel has brought about in the launcher's own control group."""

from __future__ import annotations

import contextlib

_ROOT = "/sys/fs/cgroup"


class OutOfMemory:
    """Each such death that the kernel has counted explains one death of a worker. Without a count there is none."""

    __slots__ = ("_explained", "_path")

    def __init__(self) -> None:
        self._path = _find()
        self._explained = _count(self._path)

    def explains(self) -> bool:
        """Tell whether one that died of KILL, which nobody here has sent, died of this."""
        more = _count(self._path) > self._explained
        self._explained += more
        return more


def _find() -> str:
    """Return the file with the count: that of the control group (cgroup v2), or of the one for memory (v1)."""
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        groups = {controllers: path for _, controllers, path in (line.rstrip("\n").split(":", 2) for line in file)}
        if "memory" in groups:
            return f"{_ROOT}/memory{groups['memory']}/memory.oom_control"
        return f"{_ROOT}{groups['']}/memory.events"
    return ""


def _count(path: str) -> int:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    return 0
