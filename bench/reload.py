"""Reload: what visitors notice of ten HUPs, each after a change of the application."""

from __future__ import annotations

import os
import signal
import statistics
import time
from typing import NamedTuple

from bench import figures, peers
from bench.client import Sample, Visitor

RELOADS = 10
CALM = 8.0  # seconds of load before the first reload
VISITORS = (True, True, False, False)  # with keep-alive, and without


class Outcome(NamedTuple):
    """What one peer's visitors saw; `durations` of the reloads after which only new code answered."""

    requests: int
    failed: int
    slowest_before: float
    slowest_during: float
    durations: list[float]
    reloads: int


def measure() -> None:
    """Print what the visitors of each peer saw, with two workers."""
    # uWSGI's wheel cannot execute itself again, which its reload needs.
    chosen = [peer for peer in peers.web() if peer.name != "uWSGI"]
    found = peers.measured(chosen, 2, lambda _, server: _visit(server))
    figures.table(
        f"{RELOADS} HUPs under load (2 visitors with keep-alive, 2 without, up to 200 requests/s each)",
        ["", "requests", "failed", "slowest before", "slowest during", "ratio", "new code serves", "last old answer"],
        [[peer.name, *_cells(seen)] for peer, seen in found],
    )


def _cells(seen: Outcome) -> list[str]:
    return [
        f"{seen.requests:,}",
        str(seen.failed),
        figures.milliseconds(seen.slowest_before),
        figures.milliseconds(seen.slowest_during),
        figures.ratio(seen.slowest_during, seen.slowest_before),
        f"{len(seen.durations)} of {seen.reloads} times",
        figures.milliseconds(statistics.median(seen.durations) if seen.durations else None),
    ]


def _visit(server: peers.Running) -> Outcome:
    visitors = [Visitor(server.port, keepalive=keepalive) for keepalive in VISITORS]
    for visitor in visitors:
        visitor.start()
    time.sleep(2)
    calm = time.monotonic()
    time.sleep(CALM)
    began = time.monotonic()
    durations, patience = [], 25.0
    for number in range(1, RELOADS + 1):
        took = _reload(server, visitors, str(number), patience)
        if took is not None:
            durations.append(took)
        elif not durations:
            patience = 3.0  # it did not reload the code once: wait no longer each time
    for visitor in visitors:
        visitor.stop.set()
    for visitor in visitors:
        visitor.join()
    samples = [sample for visitor in visitors for sample in visitor.samples if sample.began >= calm]
    return Outcome(
        len(samples),
        sum(bool(sample.error) for sample in samples),
        max(sample.seconds for sample in samples if sample.began < began),
        max(sample.seconds for sample in samples if sample.began >= began),
        durations,
        RELOADS,
    )


def _reload(server: peers.Running, visitors: list[Visitor], version: str, patience: float) -> float | None:
    """Return how many seconds after HUP the last old answer came, None when old code went on answering."""
    server.version.write_text(version, "utf-8")
    began = time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    while time.monotonic() < began + patience:
        time.sleep(0.25)
        if all(_settled(visitor.samples, version) for visitor in visitors):
            old = [
                sample.began + sample.seconds
                for visitor in visitors
                for sample in visitor.samples
                if sample.began > began - 1 and sample.version != version
            ]
            return max(0.0, max(old, default=began) - began)
    return None


def _settled(samples: list[Sample], version: str) -> bool:
    """Return whether the last second or so was answered by `version` alone."""
    return len(samples) > 100 and all(sample.version == version for sample in samples[-100:])
