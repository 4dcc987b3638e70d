"""Reload, scale and recycle for some minutes while every kind of client asks: `python -m tests.traffic [--minutes N]`.

Requests of the WSGI server first, then remote calls over each transport.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import pathlib
import shutil
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from tests.broker import Broker
from tests.certificates import Authority
from tests.functional.installed import Installed
from tests.traffic import ledger, stage
from tests.traffic.callers import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IDLE = 3.0  # seconds that clients rest and bodies take at most; a drain takes as long


def main() -> int:
    """Try both engines, each without TLS and with it and over each transport, report; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.traffic", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, all together (%(default)g)")
    args = parser.parse_args()
    ways = list(itertools.product((_try_requests, _try_calls), ("eventlet", "threads"), (False, True)))
    found = [_try(way, concurrency, other, args.minutes * 60 / len(ways)) for way, concurrency, other in ways]
    return 0 if all(found) else 1


def _try(
    way: Callable[[Installed, str, bool, float], list[str]], concurrency: str, other: bool, seconds: float
) -> bool:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="traffic-", dir="/tmp"))
    forkd = Installed(folder)
    try:
        print(*way(forkd, concurrency, other, seconds), sep="\n  ")
    except AssertionError as violation:
        print(f"{way.__name__}, {concurrency}, {other}: {violation}\nlog: {forkd.log}")
        return False
    finally:
        forkd.close()
    shutil.rmtree(folder)
    return True


def _try_requests(forkd: Installed, concurrency: str, tls: bool, seconds: float) -> list[str]:
    recycle = {"requests": 1000, "jitter": "50%"}
    authority = Authority(forkd.folder) if tls else None
    doors = stage.begin(forkd, forkd.folder / "sock", authority, workers=4, concurrency=concurrency, recycle=recycle)
    with Traffic(*doors, idle=_IDLE) as traffic:
        acts = _work(forkd, "web", traffic.check, seconds)
        traffic.until_more()
    name = concurrency + (", TLS" if tls else "")
    return [f"{name}: {acts}, {len(traffic.workers)} workers", *map(str, traffic.callers)]


def _try_calls(forkd: Installed, concurrency: str, broker: bool, seconds: float) -> list[str]:
    with _broker() if broker else contextlib.nullcontext("local") as transport:
        with ledger.begin(forkd, transport, concurrency) as callers:
            acts = _work(forkd, "ledger", callers.go_on, seconds)
        callers.check(forkd)
        name = f"{concurrency}, calls over {'RabbitMQ' if broker else 'the local transport'}"
        return [f"{name}: {acts}, {len(callers.booked)} calls"]


@contextlib.contextmanager
def _broker() -> Iterator[str]:
    broker = Broker()
    try:
        broker.start()
        yield broker.url()
    finally:
        broker.end()


def _work(forkd: Installed, service: str, check: Callable[[], object], seconds: float) -> str:
    """Do one thing after another, and check after each; return how many of what."""
    end = time.monotonic() + seconds
    reloads = 0
    for number in itertools.count(1):
        if number % 3:
            stage.reload(forkd)
            reloads += 1
        else:
            stage.scale(forkd, service, 1 + number // 3 % 7)
        check()
        if time.monotonic() > end:
            break
    return f"{reloads} reloads, {number - reloads} times scaled"


if __name__ == "__main__":
    sys.exit(main())
