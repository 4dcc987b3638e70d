"""Asks until every worker has answered, and prints their pids: `python -m bench.rpc.roll KIND ADDRESS WORKERS`."""

from __future__ import annotations

import json
import os
import sys
import time

from bench.rpc.clients import KINDS

PATIENCE = 20.0  # seconds
_TRIES = 20  # calls on one connection, which may lead to one of the workers only


def main() -> None:
    """Print the pids; where not all come up, the last error, and exit with 1."""
    kind, address, workers = sys.argv[1:]
    pids: set[int] = set()
    why = ""
    deadline = time.monotonic() + PATIENCE
    connect = KINDS[kind](address, 5.0)
    while len(pids) < int(workers) and time.monotonic() < deadline:
        try:
            call = connect()
            for _ in range(_TRIES):
                pids.add(call("pid", {})["pid"])
        except Exception as error:  # noqa: BLE001 -- each product has errors of its own
            why = f"{type(error).__name__}: {error}"
            time.sleep(0.1)
    print(json.dumps(sorted(pids)) if len(pids) == int(workers) else f"{len(pids)} workers answered; {why}", flush=True)
    os._exit(len(pids) != int(workers))


if __name__ == "__main__":
    main()
