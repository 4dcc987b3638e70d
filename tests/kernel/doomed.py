"""A launcher to be killed: `python -m tests.kernel.doomed FOLDER SPEC...` starts what it is told and then only waits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from forkd.config import decode
from forkd.core.commands import KILL
from forkd.core.events import Exited
from tests.kernel.yard import Yard


def main() -> None:
    folder, document, scenario = sys.argv[1:]
    spec = decode.spec_from(json.loads(document))
    yard = Yard(Path(folder), own_voice=False)
    zygote = yard.start_zygote(spec) if scenario == "importing" else yard.zygote(spec)
    pids = [yard.pid(zygote)]
    if scenario != "importing":
        pids += [yard.pid(yard.worker(zygote, slot)) for slot in range(2)]
    if scenario == "zygote lost":
        yard.signal(zygote, KILL)
        yard.until(Exited, zygote)
        successor = yard.zygote(spec)
        pids += [yard.pid(successor), yard.pid(yard.worker(successor, 2))]
    print(*pids, flush=True)
    while True:
        if scenario == "forking":
            yard.signal(yard.worker(zygote, 7), KILL)
        yard.kernel.wait(None if scenario != "forking" else yard.kernel.now())


if __name__ == "__main__":
    main()
