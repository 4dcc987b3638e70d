"""Fuzz the HTTP parser for a while: `python -m tests.wsgi.fuzz [--seconds N] [--seed N]`."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections import Counter

from tests.wsgi.conftest import ENGINES
from tests.wsgi.fuzz.run import batch
from tests.wsgi.fuzz.stage import Stage, Violation


def main() -> int:
    """Run batches of consecutive seeds, report, and return 1 if something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.wsgi.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (%(default)g); one batch at least")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the first batch (a random one)")
    args = parser.parse_args()
    print(f"seeds from {args.seed}, {args.seconds:g} seconds", flush=True)
    seed, counted, end = args.seed, Counter[str](), time.monotonic() + args.seconds
    with contextlib.ExitStack() as stack:
        stages = [stack.enter_context(Stage(engine)) for engine in ENGINES]
        while seed == args.seed or time.monotonic() < end:
            for stage in stages:
                try:
                    counted += batch(stage, seed)
                except Violation as violation:
                    print(f"{violation}\n\nagain: make fuzz SECONDS=0 SEED={seed}")
                    return 1
            seed += 1
    for what, number in counted.items():
        print(f"{number:12,}  {what}")
    print(f"{seed - args.seed:,} seeds, all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
