"""The `forkd` command: reads its arguments, calls what does the work, and turns errors into one line and an exit code.

Each command imports what it needs when it runs: `forkd status` has answered before pydantic alone is imported.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from forkd.cli import clients, local, parser
from forkd.cli.codes import BAD_CONFIG, FAILED, INTERRUPTED, NOT_RUNNING, USAGE
from forkd.errors import ConfigError, ForkdError, NotRunning, UsageError
from forkd.log import keep_standard_descriptors, say

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {**local.COMMANDS, **clients.COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, by default the process's own."""
    keep_standard_descriptors()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser.parse(arguments, COMMANDS)
        code: int = options.act(options)
        print(end="", flush=True)  # sys.stdout is None where it was closed
    except BrokenPipeError:
        # Whoever read us has seen enough. What is left in the buffer must not raise again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- whatever it is, a user gets one line
        if "--debug" in arguments:
            sys.excepthook(type(error), error, error.__traceback__)
        return _judge(error)
    return code


def _judge(error: Exception) -> int:
    if isinstance(error, ConfigError):
        say(str(error))
        return BAD_CONFIG
    if isinstance(error, NotRunning):
        return _complain(str(error), NOT_RUNNING)
    if isinstance(error, ForkdError):
        return _complain(str(error), USAGE if isinstance(error, UsageError) else FAILED)
    return _complain(f"{type(error).__name__}: {error} (--debug shows where)", FAILED)


def _complain(text: str, code: int) -> int:
    for line in text.splitlines():
        say(f"forkd: {line}")
    return code
