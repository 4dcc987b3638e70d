"""Respawn: from `kill -9` of a warm worker until its replacement has answered."""

from __future__ import annotations

import os
import random
import select
import signal
import statistics
import time
from typing import NamedTuple

from bench import figures, peers
from bench.client import TIMEOUT, ask_once

ROUNDS = 15


class Respawn(NamedTuple):
    """Seconds after a kill: until the process is dead to those who wait for it, and until another has answered."""

    dead: float
    answered: float


def measure() -> None:
    """Print the median, the fastest and the slowest of some kills, for each peer with one worker."""
    found = peers.measured((*peers.web(), *peers.processes()), 1, _kills)
    ours = statistics.median(kill.answered for kill in found[0][1])
    rows = [[peer.name, *_cells(kills, ours)] for peer, kills in found]
    figures.table(
        f"kill -9 of a warm worker → its replacement has answered ({ROUNDS} kills; Django and 50 MB of data)",
        ["", "median", "fastest", "slowest", "× forkd", "until dead"],
        rows,
    )


def _cells(kills: list[Respawn], ours: float) -> list[str]:
    times = [kill.answered for kill in kills]
    return [
        figures.milliseconds(statistics.median(times)),
        figures.milliseconds(min(times)),
        figures.milliseconds(max(times)),
        figures.ratio(statistics.median(times), ours),
        figures.milliseconds(statistics.median(kill.dead for kill in kills)),
    ]


def _kills(peer: peers.Peer, server: peers.Running) -> list[Respawn]:
    return [_kill(server.port, peer.rest) for _ in range(ROUNDS if peer.rest < 5 else ROUNDS // 3)]


def _kill(port: int, rest: float) -> Respawn:
    # Not in step with the clocks of those that look for dead processes once a second.
    time.sleep(rest + random.random())
    for _ in range(20):
        old = ask_once(port).pid
    pidfd = os.pidfd_open(old)
    began = time.monotonic()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [])
    dead = time.monotonic() - began
    os.close(pidfd)
    while time.monotonic() < began + TIMEOUT:
        try:
            if ask_once(port).pid != old:
                break
        except OSError:
            time.sleep(0.001)
    return Respawn(dead, time.monotonic() - began)
