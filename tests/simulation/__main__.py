"""Run many histories, or replay one: `python -m tests.simulation [--seeds N] [--first N] [--jobs N] [--seed N]`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.simulation import batch
from tests.simulation.history import History

CHUNK = 250
SHOWN = 3  # failures told in full


def _many(seeds: range, jobs: int) -> int:
    began, steps, tally, failures = time.monotonic(), 0, Counter[str](), 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done in pool.imap_unordered(batch.run, [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]):
            steps += done.steps
            tally += done.tally
            for outcome in done.failed:
                failures += 1
                full = failures <= SHOWN
                print(batch.describe(outcome) if full else f"seed {outcome.seed}: {outcome.violation}", flush=True)
    for what, times in sorted(tally.items()):
        print(f"{times:12,}  {what}")
    took = time.monotonic() - began
    done_in = f"{len(seeds):,} histories, {steps:,} steps in {took:.0f} s ({steps / took:,.0f}/s)"
    print(f"{done_in}: {failures or 'none'} failed")
    return 1 if failures else 0


def _one(seed: int) -> int:
    outcome = History(seed, on_entry=print).run()
    print(f"seed {seed}: {outcome.violation or 'all is well'}, {outcome.steps} steps")
    return 1 if outcome.violation else 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many histories to run (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of their seeds (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="in how many processes (%(default)s)")
    parser.add_argument("--seed", type=int, help="replay this one, and tell everything")
    args = parser.parse_args()
    if args.seed is not None:
        return _one(args.seed)
    return _many(range(args.first, args.first + args.seeds), args.jobs)


if __name__ == "__main__":
    sys.exit(main())
