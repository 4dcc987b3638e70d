"""A launcher with nothing to do does nothing: neither it nor its zygotes wake up to look."""

from __future__ import annotations

import pathlib
import time

from tests.functional.installed import Installed
from tests.waiting import until

SETTLED, WATCHED = 1.0, 3.0  # seconds


def _sleeps(pids: list[int]) -> list[int]:
    """Return how often each of these processes has gone to sleep so far."""
    lines = [pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() for pid in pids]
    return [int(line.split()[1]) for status in lines for line in status if line.startswith("voluntary_ctxt_switches")]


def _let_pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end, what="the end of the time")


def test_nobody_wakes_up_without_a_reason(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2), "adder": {"server": "adder:Adder", "topic": "adder"}})
    status = forkd.start().status()
    pids = [forkd.pid, *(service["zygote_pid"] for service in status["services"])]
    _let_pass(SETTLED)  # the zygotes fork their spares
    before = _sleeps(pids)
    _let_pass(WATCHED)
    assert max(now - then for now, then in zip(_sleeps(pids), before, strict=True)) <= 1
