"""The launcher's children as the operating system has them: who is dead, how it ended, whom to kill; all by pid."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple


class End(NamedTuple):
    """How a child ended: by its exit code, or by the signal that killed it, and whether with a core file."""

    code: int | None
    signal: int | None
    core: bool


def next_dead() -> int | None:
    """Give a child that is dead and not reaped, and leave it so."""
    with contextlib.suppress(ChildProcessError):
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return dead.si_pid if dead else None
    return None


def is_child(pid: int) -> bool:
    """Tell whether a process is a child, dead or alive."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def collect(pid: int) -> End:
    """Reap a dead child."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return End(None, os.WTERMSIG(status), os.WCOREDUMP(status))
    return End(os.WEXITSTATUS(status), None, False)


def kill_group(pid: int) -> None:
    """Kill a process group, as far as there is one and it may be."""
    # EPERM: only members that have changed their user are left, and the launcher is no root.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


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
