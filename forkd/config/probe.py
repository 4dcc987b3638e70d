"""Imports one service's code and says how that went: `python -P -m forkd.config.probe`, a spec as JSON on stdin.

It prints the number of its protocol once it has understood, then {"error": line}, an empty one when all is well.
Nothing is served and nothing forked.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from forkd import assembly, threadgroup
from forkd.channel import PROTOCOL
from forkd.config.decode import spec_from
from forkd.errors import ForkdError, ProtocolError

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec

LONGEST_LINE = 1000


def main() -> NoReturn:
    """Try the import, answer, and leave at once: what the code has started must not hold the answer up."""
    try:
        spec = spec_from(json.load(sys.stdin))
    except ProtocolError:
        os._exit(1)  # it comes from another forkd, which knows what to say
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    print(PROTOCOL, file=answer, flush=True)
    os.dup2(2, 1)  # what the code prints is no answer
    try:
        _import(spec)
        error = ""
    except BaseException as raised:  # noqa: BLE001 -- SystemExit at import is a failure like any other
        error = _line(raised)
    json.dump({"error": error}, answer)
    answer.flush()
    os._exit(0)


def _import(spec: ServiceSpec) -> None:
    threadgroup.prepare(spec.concurrency)
    if spec.umask is not None:
        os.umask(spec.umask)
    assembly.enter(spec)
    assembly.load(spec)


def _line(error: BaseException) -> str:
    if isinstance(error, ForkdError):
        text = str(error)
    elif isinstance(error, SyntaxError):
        text = f"{type(error).__name__}: {error}"  # with file and line, but without the source that did not parse
    else:
        text = "".join(traceback.format_exception_only(error))
    return " ".join(text.split())[:LONGEST_LINE]


if __name__ == "__main__":
    main()
