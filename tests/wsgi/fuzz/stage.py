"""One server under test with its clients: it plays scripts, and tells what came of them once all is quiet again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.waiting import until
from tests.wsgi import recorder
from tests.wsgi.client import TIMEOUT, Client
from tests.wsgi.fuzz.mutation import CLOSE, HALF, Script

if TYPE_CHECKING:
    from random import Random

ROOT = Path(__file__).parents[3]
_RESET = struct.pack("ii", 1, 0)


class Violation(AssertionError):
    """The server is not as it must be."""


class Played(NamedTuple):
    """What became of a script: what the application saw, and what the client got, unless it left first."""

    script: Script
    seen: list[dict[str, Any]]
    answers: bytes | None


class Stage:
    """A server process, and one healthy client of it, which must be answered in time whatever the others do."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._control, other = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the stage
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.wsgi.fuzz.server", engine, str(other.fileno())],
                cwd=ROOT,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[other.fileno()],
            )
        self._control.settimeout(TIMEOUT)
        self._address = self._control.recv(100).decode()
        self._healthy = Client(self._address)
        self._step()
        self._files = self._open_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._control.close()
        self._healthy.sock.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._log.close()

    def play(self, scripts: list[Script], rng: Random) -> list[Played]:
        """Play scripts side by side, a piece of each in turn; raise `Violation` where the server did not stay well."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(self._address)) for _ in scripts]
            ports = [client.sock.getsockname()[1] for client in clients]
            pairs = list(zip(clients, scripts, strict=True))
            for step in range(max(len(script.pieces) for script in scripts)):
                rng.shuffle(pairs)
                for client, script in pairs:
                    _send(client, script.pieces[step : step + 1])
                self._step()
            for client, script in pairs:
                _end(client, script.ending)
            answers = [_rest(client, script) for client, script in zip(clients, scripts, strict=True)]
        self._quieten()
        seen = [self._seen(port) for port in ports]
        return [Played(*each) for each in zip(scripts, seen, answers, strict=True)]

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _quieten(self) -> None:
        """Wait until no client's connection is left in the server."""
        try:
            until(lambda: self._process.poll() is not None or self._open_files() <= self._files, timeout=TIMEOUT)
        except AssertionError:
            raise Violation(f"{self._open_files() - self._files} descriptors are left open") from None
        self._step()
        log = self.log()
        if re.search(r"Traceback|stumbled|ERROR|Exception|Fatal", log):
            raise Violation(f"the server's log has an error:\n{log}")

    def _step(self) -> None:
        self._seen(0)

    def _seen(self, port: int) -> list[dict[str, Any]]:
        try:
            answer = self._healthy.get(f"{recorder.ASK}{port}")
        except (OSError, EOFError) as error:
            raise Violation(f"a healthy client got no answer: {error!r}\n{self.log()}") from None
        if answer.status != 200:
            raise Violation(f"a healthy client was answered {answer.status}")
        return json.loads(answer.body)

    def _open_files(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))


def _send(client: Client, pieces: list[bytes]) -> None:
    with contextlib.suppress(ConnectionError):  # the server has given it up
        for piece in pieces:
            client.send(piece)


def _end(client: Client, ending: str) -> None:
    with contextlib.suppress(OSError):
        if ending == HALF:
            client.sock.shutdown(socket.SHUT_WR)
            return
        if ending != CLOSE:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.sock.close()


def _rest(client: Client, script: Script) -> bytes | None:
    if script.ending != HALF:
        return None
    try:
        return client.rest()
    except ConnectionError as error:
        raise Violation(f"the connection was reset ({error}) for {script.pieces!r}") from None
    except TimeoutError:
        raise Violation(f"the server neither answered nor closed for {script.pieces!r}") from None
