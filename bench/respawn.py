"""Respawn: from `kill -9` of a warm worker until its replacement has answered."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time

from bench import figures, peers
from bench.client import TIMEOUT, ask_once

ROUNDS = 15


def measure() -> None:
    """Print the median, the fastest and the slowest of some kills, for each peer with one worker."""
    found = peers.measured((*peers.web(), *peers.processes()), 1, _kills)
    ours = statistics.median(found[0][1])
    rows = [
        [
            peer.name,
            figures.milliseconds(statistics.median(times)),
            figures.milliseconds(min(times)),
            figures.milliseconds(max(times)),
            figures.ratio(statistics.median(times), ours),
        ]
        for peer, times in found
    ]
    figures.table(
        f"kill -9 of a warm worker → its replacement has answered ({ROUNDS} kills; Django and 50 MB of data)",
        ["", "median", "fastest", "slowest", "× forkd"],
        rows,
    )


def _kills(peer: peers.Peer, server: peers.Running) -> list[float]:
    return [_kill(server.port, peer.rest) for _ in range(ROUNDS if peer.rest < 5 else ROUNDS // 3)]


def _kill(port: int, rest: float) -> float:
    # Not in step with the clocks of those that look for dead processes once a second.
    time.sleep(rest + random.random())
    for _ in range(20):
        old = ask_once(port).pid
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    while time.monotonic() < began + TIMEOUT:
        try:
            if ask_once(port).pid != old:
                break
        except OSError:
            time.sleep(0.001)
    return time.monotonic() - began
