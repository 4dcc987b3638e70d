"""Act at random for some minutes: `python -m tests.chaos [--minutes N] [--seed N]`."""

from __future__ import annotations

import argparse
import pathlib
import random
import resource
import shutil
import sys
import tempfile

from tests.chaos.run import Run
from tests.chaos.stage import Stage


def main() -> int:
    """Run once, report, and return 1 if something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to act (%(default)g)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the acts (a random one)")
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.minutes:g} minutes", flush=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    stage = Stage(folder)
    run = Run(stage, args.seed)
    try:
        run.play(args.minutes * 60)
    finally:
        stage.close()
    print(*run.lines(), sep="\n")
    if run.violation is None:
        shutil.rmtree(folder)
        return 0
    print(f"\nseed {args.seed}: {run.violation}\n", *run.acts, f"log: {stage.log}", sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
