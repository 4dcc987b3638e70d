"""The child that reads a configuration, as its caller sees it: how it is started, and what its answer means.

It imports neither yaml nor pydantic: they stay in the child, where no file can crash or bloat the caller.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from forkd import interpreter
from forkd.config.decode import config_from
from forkd.errors import ConfigError, ForkdError, ProtocolError

if TYPE_CHECKING:
    from forkd.core.spec import Config

OK, BAD = 0, 78
LONGEST_ANSWER = 16 << 20
SECONDS = 30  # how long reading may take, and the child's own alarm
_CHUNK = 1 << 16
_TOO_LONG = (signal.SIGALRM, signal.SIGXCPU)


def read(path: str, *, check_imports: bool = False) -> Config:
    """Return the configuration at `path`, read by a child that this call waits for.

    `check_imports` also imports each service's code. Raises as `outcome` does.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    command = reader_command(path, check_imports=check_imports)
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)],
            setsigmask=[],
        )
    except OSError as error:
        os.close(ours)
        raise ForkdError(f"{path}: cannot start its reader: {error.strerror}") from None
    finally:
        os.close(theirs)
    try:
        output = _all_of(ours)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(ours)
        _, status = os.waitpid(pid, 0)
    return outcome(output, os.waitstatus_to_exitcode(status))


def reader_command(path: str, *, check_imports: bool = False) -> list[str]:
    """Return the command line of a child that prints what `outcome` understands."""
    return interpreter.command("forkd.config", path, *(["--import"] if check_imports else []))


def outcome(output: bytes, exit_code: int) -> Config:
    """Return the configuration that a reader has printed; `exit_code` is negative where a signal ended it.

    Raises ConfigError with the problems that it has printed, or since reading took too long. Raises ForkdError with
    the reason why it gave no answer, which says nothing of the configuration.
    """
    if -exit_code in _TOO_LONG:
        raise ConfigError([f"cannot read the configuration: its reader took longer than {SECONDS} s"])
    if exit_code not in (OK, BAD):
        raise ForkdError(f"cannot read the configuration: its reader {_end(exit_code)}")
    try:
        document = json.loads(output)
        if exit_code == BAD:
            raise ConfigError([str(problem) for problem in document["problems"]])
        return config_from(document["config"])
    except (ValueError, KeyError, TypeError, RecursionError, ProtocolError):
        raise ForkdError("cannot read the configuration: its reader gave no answer that makes sense") from None


def _all_of(fd: int) -> bytes:
    """Read to the end, or to one byte more than an answer may have: its reader then ends by SIGPIPE."""
    output = bytearray()
    while len(output) <= LONGEST_ANSWER and (data := os.read(fd, _CHUNK)):
        output += data
    return bytes(output)


def _end(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed with exit code {exit_code}"
    return f"was killed by signal {-exit_code}"
