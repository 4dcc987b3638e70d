"""Remote calls: how many a second, how soon, at what cost of memory, and what is left of it all under too many.

BENCH_PEERS, words of names, measures less; BENCH_SECONDS and BENCH_ROUNDS more briefly.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench import figures, idle, peers
from bench.rpc.overload import DEADLINE
from bench.rpc.products import Product, everybody
from tests.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = float(os.environ.get("BENCH_SECONDS", "2"))  # of each load
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CALLERS = (1, 16, 256)
WORKERS = 2
THREADS = 128  # so that all callers find one
FEW_THREADS = 4  # when they are to be overloaded
CAPACITY_CALLERS = WORKERS * FEW_THREADS * 3 // 2  # all threads busy, and somebody waits for each second one
OVERLOAD = 2.0
OVERLOAD_SECONDS = 2 * SECONDS

Figures = dict[str, Any]


class _Failed(Exception):
    """A load has failed; its text has why."""


def measure() -> None:
    """Print a table for each number of callers, one of memory, and one of what is left under overload."""
    words = os.environ.get("BENCH_PEERS", "").split()
    chosen = [product for product in everybody() if not words or any(word in product.name for word in words)]
    needed = any(product.needs_broker for product in chosen)
    with Broker(fast=True) if needed else contextlib.nullcontext() as broker:
        session = _Session(chosen, broker.url() if broker else "")
        for _ in range(ROUNDS):
            # One after the other in each round, so that a busy moment of the machine hits nobody alone.
            for product in chosen:
                session.load(product)
    session.show()


class _Session:
    """The products, and what was measured of them so far."""

    def __init__(self, chosen: list[Product], url: str) -> None:
        self._chosen = chosen
        self._url = url
        self._found: dict[tuple[str, str], list[Figures]] = {}  # by the names of the load and the product
        self._failed: set[tuple[str, str]] = set()

    def load(self, product: Product) -> None:
        """Start a product, let callers load it, and start it anew to be overloaded."""
        with self._attempt("memory", product), self._served(product, THREADS) as (address, pids):
            for callers in CALLERS:
                with self._attempt(str(callers), product):
                    self._note(str(callers), product, _run("callers", product.kind, address, "echo", callers, SECONDS))
            sizes = [idle.kilobytes(pid, "smaps_rollup", "Pss") / 1024 for pid in pids]
            self._note("memory", product, {"size": statistics.mean(sizes)})
        if product.bounded:
            with self._attempt("overload", product), self._served(product, FEW_THREADS) as (address, _):
                self._note("overload", product, _overload(product.kind, address))

    def show(self) -> None:
        """Print what was found."""
        for callers in CALLERS:
            self._show(
                str(callers),
                f"{callers} caller{'s' * (callers > 1)} ({ROUNDS} × {SECONDS:g} s)",
                ["", "calls/s", "from – to", "p50", "p99", "max", "failed"],
            )
        self._show("memory", "A worker after these loads", ["", "proportional"])
        title = f"{OVERLOAD:g} times as many calls of 5 ms as it can answer, within {DEADLINE * 1000:.0f} ms"
        head = ["", "capacity/s", "answered in time/s", "of capacity", "from – to", "p50", "p99", "the others"]
        self._show("overload", title, head)

    @contextlib.contextmanager
    def _attempt(self, load: str, product: Product) -> Iterator[None]:
        try:
            yield
        except (_Failed, FileNotFoundError, peers.NotServing) as problem:
            self._failed.add((load, product.name))
            print(f"{product.name}, {load}: {problem}", file=sys.stderr)

    @contextlib.contextmanager
    def _served(self, product: Product, threads: int) -> Iterator[tuple[str, list[int]]]:
        """Start a product, yield the address of its workers and their pids, and end it."""
        words: dict[str, object] = {"workers": WORKERS, "threads": threads, "broker": self._url}
        with peers.started(product.peer, **words) as (_, server):
            address = product.address.format(work=server.work, port=server.port, broker=self._url)
            try:
                pids = _run("roll", product.kind, address, WORKERS)
            except _Failed as problem:
                told = (server.work / "output").read_text("utf-8", "replace")[-1500:]
                raise peers.NotServing(f"it does not serve: {problem}\n{told}") from None
            yield address, pids

    def _note(self, load: str, product: Product, found: Figures) -> None:
        self._found.setdefault((load, product.name), []).append(found)

    def _show(self, load: str, title: str, head: list[str]) -> None:
        cells = {"memory": _memory_cells, "overload": _overload_cells}.get(load, _cells)
        found = {product.name: self._found.get((load, product.name), []) for product in self._chosen}
        rows = [[name, *cells(results)] for name, results in found.items() if results]
        if rows:
            figures.table(title, head, rows)
        figures.absent(name for name, results in found.items() if not results and (load, name) in self._failed)


def _overload(kind: str, address: str) -> Figures:
    capacity = _run("callers", kind, address, "nap", CAPACITY_CALLERS, SECONDS)["rate"]
    found = _run("overload", kind, address, OVERLOAD * capacity, OVERLOAD_SECONDS)
    return {"capacity": capacity, **found}


def _run(module: str, *words: object) -> Any:
    """Run a module of this package in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", f"bench.rpc.{module}", *map(str, words)]
    process = subprocess.run(command, check=False, capture_output=True, text=True, cwd=peers.ROOT)
    if process.returncode:
        raise _Failed((process.stdout + process.stderr)[-500:])
    return json.loads(process.stdout)


def _cells(results: list[Figures]) -> list[str]:
    rates = [result["rate"] for result in results]
    return [
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} – {max(rates):,.0f}",
        figures.milliseconds(statistics.median(result["p50"] for result in results)),
        figures.milliseconds(statistics.median(result["p99"] for result in results)),
        figures.milliseconds(max(result["max"] for result in results)),
        _failures(results),
    ]


def _memory_cells(results: list[Figures]) -> list[str]:
    return [f"{statistics.median(result['size'] for result in results):.1f} MiB"]


def _overload_cells(results: list[Figures]) -> list[str]:
    shares = [result["goodput"] / result["capacity"] for result in results]
    return [
        f"{statistics.median(result['capacity'] for result in results):,.0f}",
        f"{statistics.median(result['goodput'] for result in results):,.0f}",
        f"{statistics.median(shares):.0%}",
        f"{min(shares):.0%} – {max(shares):.0%}",
        *(_median(results, "p50"), _median(results, "p99")),
        _failures(results),
    ]


def _median(results: list[Figures], name: str) -> str:
    values = [result[name] for result in results if result[name] is not None]
    return figures.milliseconds(statistics.median(values) if values else None)


def _failures(results: list[Figures]) -> str:
    kinds = sorted({kind for result in results for kind in result["failures"]})
    return ", ".join(f"{sum(result['failures'].get(kind, 0) for result in results):,} {kind}" for kind in kinds) or "0"
