"""WSGI: how many requests forkd answers, how soon, and what an idle connection costs, beside other servers.

BENCH_CASES and BENCH_PEERS, words of names, measure less; BENCH_SECONDS and BENCH_ROUNDS more briefly.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import sys
import time
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import psutil

from bench import figures, kept, peers, servers
from bench.cases import CASES, Case
from bench.load import Load, Result

if TYPE_CHECKING:
    from bench.peers import Peer

SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))  # of each load
SETTLE = 1.0  # before the first load: who has answered once may still be busy with its other processes
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


def measure() -> None:
    """Print a table for each case, and one of idle connections."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cases = [case for case in CASES if _chosen("CASES", case.name)]
    chosen = [peer for peer in servers.under_load() if _chosen("PEERS", peer.name)]
    if any(peer.path for peer in chosen):
        peers.build_compiled()
    session = _Session(chosen)
    for _ in range(ROUNDS):
        # One after the other in each round, so that a busy moment of the machine hits no server alone.
        for app, group in groupby(cases, key=lambda case: case.app):
            session.load(app, list(group))
    for case in cases:
        session.show(case)
    if _chosen("CASES", "kept"):
        kept.measure([peer for peer in servers.with_many_connections(kept.MANY + 100) if _chosen("PEERS", peer.name)])


def processor_time(pid: int) -> float:
    """Return the seconds of the processor that a process and those under it have had; of one that has ended, none."""
    main = psutil.Process(pid)
    total = 0.0
    for process in (main, *main.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _chosen(variable: str, name: str) -> bool:
    words = os.environ.get(f"BENCH_{variable}", "").split()
    return not words or any(word in name for word in words)


class Loaded(NamedTuple):
    """What came of a load, and the processor time in seconds that the server has spent on it."""

    result: Result
    spent: float


class _Session:
    """The servers, and what was measured of them so far."""

    def __init__(self, chosen: list[Peer]) -> None:
        self._load = Load()
        self._peers = chosen
        self._found: dict[tuple[str, str], list[Loaded]] = {}  # by the names of case and server
        self._absent: set[tuple[str, str]] = set()  # names of application and server

    def load(self, app: str, cases: list[Case]) -> None:
        """Start one server after the other with an application, and let each of the cases load it."""
        for peer in self._peers:
            if (app, peer.name) in self._absent:
                continue
            try:
                with peers.running(peer, servers.WORKERS, app) as server:
                    time.sleep(SETTLE)
                    for case in cases:
                        before = processor_time(server.pid)
                        result = self._load.run(server.port, case.requests, case.clients, SECONDS, keep=case.keep)
                        spent = processor_time(server.pid) - before
                        self._found.setdefault((case.name, peer.name), []).append(Loaded(result, spent))
            except (peers.NotServing, FileNotFoundError) as problem:
                self._absent.add((app, peer.name))
                print(f"{peer.name} with {app}: {problem}", file=sys.stderr)

    def show(self, case: Case) -> None:
        """Print the table of a case, and name those who are not in it."""
        found = {peer.name: self._found.get((case.name, peer.name), []) for peer in self._peers}
        rates = {
            name: statistics.median(one.result.rate for one in results) for name, results in found.items() if results
        }
        ours = rates.get(peers.forkd().name)
        rows = [[name, *_cells(found[name], figures.ratio(ours, rate))] for name, rate in rates.items()]
        connections = f"{case.clients:,} connections" if case.keep else f"{case.clients} clients"
        figures.table(
            f"{case.title} ({connections}; {ROUNDS} × {SECONDS:g} s)",
            ["", "requests/s", "from – to", "forkd is ×", "CPU", "p50", "p99", "max", "failed"],
            rows,
        )
        figures.absent(name for name in found if name not in rates)


def _cells(loads: list[Loaded], ratio: str) -> list[str]:
    results = [load.result for load in loads]
    rates = [result.rate for result in results]
    first = [result.kinds[0] for result in results]
    failures = {kind: sum(result.failures[kind] for result in results) for kind in results[0].failures}
    return [
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} – {max(rates):,.0f}",
        ratio,
        f"{statistics.median(load.spent / max(1, load.result.answers) for load in loads) * 1e6:,.1f} µs",
        figures.milliseconds(statistics.median(latencies.p50 for latencies in first)),
        figures.milliseconds(statistics.median(latencies.p99 for latencies in first)),
        figures.milliseconds(max(latencies.max for latencies in first)),
        ", ".join(f"{count:,} {kind}" for kind, count in failures.items() if count) or "0",
    ]
