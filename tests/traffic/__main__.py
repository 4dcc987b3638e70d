"""Reload, scale and recycle for some minutes while every kind of client asks: `python -m tests.traffic [--minutes N]`."""

from __future__ import annotations

import argparse
import itertools
import pathlib
import shutil
import sys
import tempfile
import time

from tests.certificates import Authority
from tests.functional.installed import Installed
from tests.traffic import stage
from tests.traffic.callers import Traffic

_IDLE = 3.0  # seconds that clients rest and bodies take at most; a drain takes as long


def main() -> int:
    """Try both engines, each without TLS and with it, report, and return 1 if a request was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.traffic", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, all together (%(default)g)")
    args = parser.parse_args()
    ways = list(itertools.product(("eventlet", "threads"), (False, True)))
    found = [_try(concurrency, args.minutes * 60 / len(ways), tls=tls) for concurrency, tls in ways]
    return 0 if all(found) else 1


def _try(concurrency: str, seconds: float, *, tls: bool) -> bool:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="traffic-", dir="/tmp"))
    forkd = Installed(folder)
    recycle = {"requests": 1000, "jitter": "50%"}
    authority = Authority(folder) if tls else None
    doors = stage.begin(forkd, folder / "sock", authority, workers=4, concurrency=concurrency, recycle=recycle)
    name = concurrency + (", TLS" if tls else "")
    traffic = Traffic(*doors, idle=_IDLE)
    try:
        with traffic:
            acts = _work(forkd, traffic, seconds)
    except AssertionError as violation:
        print(f"{name}: {violation}\nlog: {forkd.log}")
        return False
    finally:
        forkd.close()
    print(f"{name}: {acts} acts, {len(traffic.workers)} workers", *map(str, traffic.callers), sep="\n  ")
    shutil.rmtree(folder)
    return True


def _work(forkd: Installed, traffic: Traffic, seconds: float) -> int:
    """Do one thing after another; return how many."""
    end = time.monotonic() + seconds
    for number in itertools.count(1):
        if number % 3:
            stage.scale(forkd, 1 + number % 7)
        else:
            stage.reload(forkd)
        traffic.check()
        if time.monotonic() > end:
            break
    traffic.until_more()
    return number


if __name__ == "__main__":
    sys.exit(main())
