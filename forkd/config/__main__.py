"""The reader: `python -P -m forkd.config FILE [--import]` prints one JSON document, and exits with 0 or 78.

The document is {"config": …} or {"problems": [line, …]}. It bounds itself before it looks at the
file, for nobody waits longer or gives more than that.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from forkd.config import imports
from forkd.config.decode import config_to
from forkd.config.load import load
from forkd.config.reader import BAD, OK, SECONDS
from forkd.errors import ConfigError

USAGE = 2
MOST_MEMORY = 1 << 30
LARGEST_ANSWER = 8 << 20
_LIMITS = {resource.RLIMIT_AS: MOST_MEMORY, resource.RLIMIT_CPU: SECONDS}


def main(arguments: list[str]) -> int:
    """Read the file that the arguments name and print the answer; return the exit code."""
    if not arguments or arguments[1:] not in ([], ["--import"]):
        print("usage: python -P -m forkd.config FILE [--import]", file=sys.stderr)
        return USAGE
    answer = _answer(arguments[0], check_imports=len(arguments) > 1)
    text = json.dumps(answer)
    if len(text) > LARGEST_ANSWER:
        answer = {"problems": [f"{arguments[0]}: too large: its services take {len(text)} bytes as JSON"]}
        text = json.dumps(answer)
    print(text, flush=True)
    return BAD if "problems" in answer else OK


def _answer(path: str, *, check_imports: bool) -> dict[str, Any]:
    try:
        before = _bound()
        loaded = load(path)
        _unbound(before)
        if check_imports:
            imports.try_all(loaded)
    except MemoryError:
        return {"problems": [f"{path}: needs more memory than reading may take, 1 GiB"]}
    except ConfigError as error:
        return {"problems": error.problems}
    return {"problems": loaded.problems.error().problems} if loaded.problems else {"config": config_to(loaded.config)}


def _bound() -> dict[int, tuple[int, int]]:
    """Bound time and memory; return the limits of before."""
    for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # no traceback for whoever presses Ctrl-C
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the caller holds back
    signal.alarm(SECONDS)
    before = {limit: resource.getrlimit(limit) for limit in _LIMITS}
    for limit, value in _LIMITS.items():
        soft, hard = before[limit]
        resource.setrlimit(limit, (min((value, *(one for one in (soft, hard) if one >= 0))), hard))
    return before


def _unbound(before: dict[int, tuple[int, int]]) -> None:
    """Give back what only reading has to bear: importing is bounded by each service's own timeout."""
    signal.alarm(0)
    for limit, values in before.items():
        resource.setrlimit(limit, values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
