"""The load of `load.c` from Python: it is compiled, run against a port, and its figures are read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = Path(__file__).with_name("load.c")
WARM_UP = 0.5  # seconds before those that count
TIMEOUT = 2.0  # seconds after which a client gives up


class Request(NamedTuple):
    """What a client sends, the length of the body that answers it, and how often it is among the others."""

    text: bytes
    length: int
    weight: float = 1.0


class Latencies(NamedTuple):
    """Of the requests of one kind, in seconds, timeouts included; and how many were answered in the time."""

    answered: int
    p50: float
    p99: float
    max: float


class Result(NamedTuple):
    """What came of a load: answers per second, latencies by request, failures by kind, all answers, its processor time.

    `answers` are also those before the time that counts.
    """

    rate: float
    kinds: list[Latencies]
    failures: dict[str, int]
    answers: int
    cpu: float


class Load:
    """The compiled program, in a directory that it shares with its requests and that goes when it does."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="bench-")
        self._program = f"{self._place.name}/load"
        compiler = shutil.which("cc")
        if compiler is None:
            sys.exit("the load is written in C, and there is no compiler: install gcc and libc6-dev")
        subprocess.run([compiler, "-O2", "-o", self._program, SOURCE], check=True)

    def run(self, port: int, requests: Sequence[Request], clients: int, seconds: float, *, keep: bool) -> Result:
        """Let clients ask for so many seconds, on connections that they keep or on one for each request."""
        total = sum(request.weight for request in requests)
        words: list[object] = [port, clients, WARM_UP, seconds, TIMEOUT, int(keep)]
        for number, request in enumerate(requests):
            file = Path(self._place.name) / f"request-{number}"
            file.write_bytes(request.text)
            words += [request.weight / total, request.length, file]
        command = [self._program, *map(str, words)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        kinds = [_latencies(kind) for kind in found["kinds"]]
        rate = sum(kind.answered for kind in kinds) / seconds
        return Result(rate, kinds, found["failures"], found["answers"], found["cpu"])


def _latencies(kind: dict[str, int]) -> Latencies:
    return Latencies(kind["answered"], *(kind[name] / 1e6 for name in ("p50", "p99", "max")))
