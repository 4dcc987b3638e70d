"""Idle: what the main process costs when nothing happens."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from bench import figures, peers

SECONDS = 30.0


def measure() -> None:
    """Print memory, wake-ups and processor time of each peer's main process, with two workers at rest."""
    found = peers.measured((*peers.web(), *peers.processes()), 2, lambda _, server: _rest(server.pid))
    figures.table(
        f"The main process at rest ({SECONDS:.0f} s, two workers)",
        ["", "resident", "proportional", "wake-ups per second", "CPU"],
        [[peer.name, *cells] for peer, cells in found],
    )


def _rest(pid: int) -> list[str]:
    time.sleep(5)
    before, ticks = wakeups(pid), _ticks(pid)
    time.sleep(SECONDS)
    per_second = (wakeups(pid) - before) / SECONDS
    cpu = (_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK") / SECONDS
    resident, proportional = kilobytes(pid, "status", "VmRSS"), kilobytes(pid, "smaps_rollup", "Pss")
    return [f"{resident / 1024:.1f} MiB", f"{proportional / 1024:.1f} MiB", f"{per_second:.2f}", f"{cpu:.2%}"]


def wakeups(pid: int) -> int:
    """Return how often the threads of a process went to sleep of their own will, and so were woken."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text("utf-8")
        found += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
    return found


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def kilobytes(pid: int, file: str, name: str) -> int:
    """Return a field of a file in /proc/PID."""
    text = Path(f"/proc/{pid}/{file}").read_text("utf-8")
    return int(re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
