"""Calls that come whether or not others are answered: `python -m bench.rpc.overload KIND ADDRESS RATE SECONDS`.

They come at random, so many a second on average. It prints one JSON object.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.rpc.callers import ARGS, WARM_UP
from bench.rpc.clients import KINDS

if TYPE_CHECKING:
    from bench.rpc.clients import Call, Connect

DEADLINE = 0.2  # seconds from when a call was due until nobody wants its answer any more
METHOD = "nap"


class Stream:
    """The calls that are due, and the threads that make them; each takes the next one when it is free.

    There are enough for all that can be under way at a time. The time of a call counts from when it was due, so that
    a client that is late itself cannot hide it.
    """

    def __init__(self, connect: Connect, rate: float, seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        dice = random.Random(1)
        gaps = (dice.expovariate(rate) for _ in itertools.count())
        self._due = list(itertools.takewhile(lambda at: at < WARM_UP + seconds, itertools.accumulate(gaps)))
        self._next = itertools.count()
        self._began = 0.0
        self._found: list[tuple[float, str]] = []  # seconds, and the name of the error
        count = math.ceil(1.2 * rate * DEADLINE) + 16
        self._gate = threading.Barrier(count + 1)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def run(self) -> dict[str, Any]:
        """Make all calls; return the figures."""
        for thread in self._threads:
            thread.start()
        self._gate.wait(120)
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.join()
        good = sorted(seconds for seconds, error in self._found if not error)
        return {
            "goodput": len(good) / self._seconds,
            "asked": len(self._found) / self._seconds,
            "p50": good[len(good) // 2] if good else None,
            "p99": good[len(good) * 99 // 100] if good else None,
            "failures": Counter(error for _, error in self._found if error),
        }

    def _run(self) -> None:
        try:
            call = self._connect()
            with contextlib.suppress(Exception):  # for the connection alone: so many at once may well be refused
                call(METHOD, ARGS)
            self._gate.wait()
        except Exception:
            self._gate.abort()
            raise
        while not self._began:
            time.sleep(0.001)
        for number in self._next:
            if number >= len(self._due):
                return
            due = self._due[number]
            found = self._make(call, self._began + due)
            if due >= WARM_UP:
                self._found.append(found)

    def _make(self, call: Call, due: float) -> tuple[float, str]:
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        elif -early > DEADLINE:
            return -early, "too late to be sent"
        error = ""
        try:
            call(METHOD, ARGS)
        except Exception as problem:  # noqa: BLE001 -- each product has errors of its own
            error = type(problem).__name__
        seconds = time.perf_counter() - due
        return seconds, error or ("answered late" if seconds > DEADLINE else "")


def main() -> None:
    """Load, print the figures, and leave without a word to anybody: some libraries wait at exit."""
    kind, address, rate, seconds = sys.argv[1:]
    print(json.dumps(Stream(KINDS[kind](address, DEADLINE), float(rate), float(seconds)).run()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
