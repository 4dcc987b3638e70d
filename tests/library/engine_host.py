"""The process that tests of one engine are forked from: `python -m tests.library.engine_host ENGINE`.

Reads one JSON object a line (`module`, `function`, `arguments`, `output`: a file for whatever the test prints), runs
that function in a fork, and answers with the fork's exit status, 0 when it passed. It starts no thread itself.
"""

from __future__ import annotations

import sys

from forkd import threadgroup

if __name__ == "__main__":
    threadgroup.prepare(sys.argv[1])

import faulthandler
import importlib
import json
import os
import posix  # eventlet's `os.waitpid` polls
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 60.0  # seconds; a test that hangs says where


def main(engine: str) -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        # Imported here, once: imports are most of what a test takes.
        function = getattr(importlib.import_module(order["module"]), order["function"])
        pid = os.fork()
        if pid == 0:
            run(engine, function, order)
        _, status = posix.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(engine: str, function: Callable[..., None], order: dict[str, Any]) -> NoReturn:
    """Be the fork: call the function and leave."""
    status = 1
    try:
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT, 0o600)
        for fd in (1, 2):
            os.dup2(output, fd)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        threadgroup.after_fork(engine)
        function(**{name: value if "tmp" not in name else Path(value) for name, value in order["arguments"].items()})
        status = 0
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the test has failed
        tell(error)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def tell(error: BaseException) -> None:
    """Print the traceback, with the variables of each frame as far as they can be shown."""
    try:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(told.format())
    except Exception:  # noqa: BLE001 -- some object's `repr` failed
        text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
