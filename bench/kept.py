"""Kept connections: what ten thousand that are idle cost one worker, and the client that is not."""

from __future__ import annotations

import contextlib
import resource
import select
import statistics
import time
from typing import TYPE_CHECKING

from bench import figures, idle, peers
from bench.cases import PLAIN
from bench.client import connect, fetch

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

MANY = 10_000
ASKED = 1000  # requests of the client that is not idle, one every PERIOD
PERIOD = 0.002
_OTHER_FILES = 200  # that the servers and this process open


def measure(chosen: Sequence[peers.Peer]) -> None:
    """Print by how much a worker grows, and how soon it answers another connection meanwhile."""
    if (files := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) < MANY + _OTHER_FILES:
        print(f"\n{MANY:,} idle connections are not measured: {files:,} descriptors are too few (ulimit -n).")
        return
    found = peers.measured(chosen, 1, lambda _, server: _cost(server.port), PLAIN)
    figures.table(
        f"{MANY:,} idle keep-alive connections to one worker",
        ["", "resident, each", "proportional, each", "closed by it", "another one's p50", "p99", "max"],
        [[peer.name, *cells] for peer, cells in found],
    )
    measured = {peer.name for peer, _ in found}
    figures.absent(peer.name for peer in chosen if peer.name not in measured)


def _cost(port: int) -> list[str]:
    try:
        return _cells(port)
    except OSError as problem:
        raise peers.NotServing(f"it does not keep {MANY:,} connections: {problem}") from problem


def _cells(port: int) -> list[str]:
    with connect(port) as visitor, contextlib.ExitStack() as crowd:
        _latencies(visitor)  # what it needs for requests is not counted to the connections
        worker = int(fetch(visitor, "/pid", keepalive=True)[0])
        before = _memory(worker)
        connections = []
        for _ in range(MANY):
            connections.append(crowd.enter_context(connect(port)))
            fetch(connections[-1], "/", keepalive=True)
        time.sleep(1)
        growth = [(now - then) / MANY for now, then in zip(_memory(worker), before, strict=True)]
        latencies = _latencies(visitor)
        return [
            *(f"{kilobytes:.2f} KiB" for kilobytes in growth),
            f"{_closed(connections):,}",
            figures.milliseconds(statistics.median(latencies)),
            figures.milliseconds(sorted(latencies)[len(latencies) * 99 // 100]),
            figures.milliseconds(max(latencies)),
        ]


def _latencies(connection: socket.socket) -> list[float]:
    found = []
    for _ in range(ASKED):
        began = time.monotonic()
        fetch(connection, "/", keepalive=True)
        found.append(time.monotonic() - began)
        time.sleep(max(0.0, PERIOD - found[-1]))
    return found


def _memory(pid: int) -> tuple[int, int]:
    return idle.kilobytes(pid, "status", "VmRSS"), idle.kilobytes(pid, "smaps_rollup", "Pss")


def _closed(connections: list[socket.socket]) -> int:
    """Return how many have been ended by the server: bytes that nobody asked for would count too."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))
