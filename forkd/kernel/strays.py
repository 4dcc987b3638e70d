"""What is left when no incarnation is: processes that workers started and that left their groups, by now children."""

from __future__ import annotations

import contextlib
import os
import signal


def kill_children() -> bool:
    """Kill every child of this process, and reap none; tell whether there was one that could be killed."""
    return sum(map(_kill, _children())) > 0


def _kill(pid: int) -> bool:
    with contextlib.suppress(PermissionError):  # it has changed its user, and the launcher is no root
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _children() -> list[int]:
    """Find them, those among them that are dead and not reaped."""
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _parent(pid) == os.getpid()]


def _parent(pid: int) -> int | None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[1])
    return None
