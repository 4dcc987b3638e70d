"""Status: how long the whole process of a status command takes, from its start to its exit."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from bench import figures, peers

ROUNDS = 20


def measure() -> None:
    """Print the medians, the commands taken in turn so that a busy moment hits all of them alike."""
    supervisord = peers.processes()[0]
    with peers.running(peers.forkd(), workers=4) as ours, peers.running(supervisord, workers=1) as theirs:
        commands = {
            "forkd status": [peers.in_path("forkd"), "status", "--runtime-dir", f"{ours.work}/run"],
            "forkd status --json": [peers.in_path("forkd"), "status", "--json", "--runtime-dir", f"{ours.work}/run"],
            "supervisorctl status": [peers.in_path("supervisorctl"), "-c", f"{theirs.work}/config", "status"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(_run(command))
    ours_median = statistics.median(times["forkd status"])
    rows = [
        [
            name,
            figures.milliseconds(statistics.median(all_)),
            figures.milliseconds(min(all_)),
            figures.ratio(statistics.median(all_), ours_median),
        ]
        for name, all_ in times.items()
    ]
    figures.table(
        f"A status command, the whole process ({ROUNDS} runs)", ["", "median", "fastest", "× forkd status"], rows
    )


def _run(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
    return time.monotonic() - began
