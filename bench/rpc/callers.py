"""Threads of this process that call without a pause: `python -m bench.rpc.callers KIND ADDRESS METHOD CALLERS SECONDS`.

It prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.rpc.clients import KINDS

if TYPE_CHECKING:
    from bench.rpc.clients import Call, Connect

WARM_UP = 1.0  # seconds before those that count
TIMEOUT = 10.0  # seconds after which a caller gives up
ARGS: dict[str, Any] = {"customer": "ada", "cents": 1200, "items": ["tea", "milk"], "gift": False}


class Crowd:
    """The callers and what they found.

    A call that has begun before the end is waited for, and its time counts; so does the whole timeout of one that
    failed. So whoever answers some callers and lets others starve does not look fast: it stands in `max`.
    """

    def __init__(self, connect: Connect, method: str, count: int) -> None:
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self._connect, self._method = connect, method
        self._answered = 0
        self._from = self._until = float("inf")
        self._gate = threading.Barrier(count + 1)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def run(self, seconds: float) -> dict[str, Any]:
        """Call for so many seconds after a warm-up; return the figures."""
        for thread in self._threads:
            thread.start()
        self._gate.wait(60)
        self._from = time.perf_counter() + WARM_UP
        self._until = self._from + seconds
        for thread in self._threads:
            thread.join()
        ordered = sorted(self.latencies)
        return {
            "rate": self._answered / seconds,
            "p50": ordered[len(ordered) // 2],
            "p99": ordered[len(ordered) * 99 // 100],
            "max": ordered[-1],
            "failures": self.failures,
        }

    def _run(self) -> None:
        try:
            call = self._connect()
            call(self._method, ARGS)
            self._gate.wait()
        except Exception:
            self._gate.abort()
            raise
        self._go_on(call)

    def _go_on(self, call: Call) -> None:
        latencies: list[float] = []
        failures: Counter[str] = Counter()
        answered = 0
        began = time.perf_counter()
        while began < self._until:
            failed = False
            try:
                call(self._method, ARGS)
            except Exception as error:  # noqa: BLE001 -- each product has errors of its own
                failures[type(error).__name__] += 1
                failed = True
            ended = time.perf_counter()
            if ended > self._from:
                latencies.append(TIMEOUT if failed else ended - began)
                answered += ended <= self._until and not failed
            began = ended
        self.latencies += latencies
        self.failures += failures
        self._answered += answered


def main() -> None:
    """Load, print the figures, and leave without a word to anybody: some libraries wait at exit."""
    kind, address, method, callers, seconds = sys.argv[1:]
    print(json.dumps(Crowd(KINDS[kind](address, TIMEOUT), method, int(callers)).run(float(seconds))), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
