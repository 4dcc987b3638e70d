"""What /proc says of a process, read by hand: psutil alone takes longer to import than `forkd status` may run."""

from __future__ import annotations

import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
# Fields of proc(5)'s stat, counted from the state, which follows the name: the name may hold anything.
_PARENT, _USER_TIME, _SYSTEM_TIME, _THREADS, _RESIDENT = 1, 11, 12, 17, 21


class Usage(NamedTuple):
    """Bytes, seconds of CPU since its start, open descriptors, threads; None for what the kernel does not tell us."""

    rss: int | None = None
    pss: int | None = None
    cpu_seconds: float | None = None
    fds: int | None = None
    threads: int | None = None


def usage(pid: int, parent: int, *, share: bool = True) -> Usage:
    """Return what a child of `parent` uses; nothing for a process that is somebody else's by now.

    Its `share`, the proportional memory, has the kernel walk through all of its pages, which takes longest by far.
    """
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(b")") + 2 :].split()
    if not fields or int(fields[_PARENT]) != parent:
        return Usage()
    return Usage(
        rss=int(fields[_RESIDENT]) * _PAGE,
        pss=_pss(pid) if share else None,
        cpu_seconds=(int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICK,
        fds=_count_fds(pid),
        threads=int(fields[_THREADS]),
    )


def _pss(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None


def _count_fds(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def _read(path: str) -> bytes:
    """Return a file's content, empty where it may not or cannot be read any more."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
