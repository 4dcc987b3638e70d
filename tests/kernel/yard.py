"""A kernel under test: services written for one test, commands performed on them, and what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from forkd import process
from forkd.core.commands import KILL, Retire, Signal, Spawn, StartZygote
from forkd.core.events import Exited, Ready, Started
from forkd.core.spec import ServiceSpec
from forkd.kernel import Kernel
from tests.waiting import until

if TYPE_CHECKING:
    from forkd.core.commands import Command
    from forkd.core.events import Event

PATIENCE = 30.0  # seconds
PRELUDE = """
    import forkd, os, signal, socket, subprocess, sys, time
    def say(*words):
        with open(os.environ["SAYS"], "w") as out:
            out.write(" ".join(map(str, words)) + "\\n")
"""


class Yard:
    """One kernel, and whatever it starts; `events` is all that it has ever reported."""

    def __init__(self, folder: Path, *, own_voice: bool = True) -> None:
        self.folder = folder
        self._others = set(psutil.Process().children())  # of other tests, for later ones
        self.kernel = Kernel(str(folder / "services.yaml"), str(folder))
        self.events: list[Event] = []
        self._ids = iter(range(1, 1_000_000))
        self._says = folder / "says"
        if own_voice:
            os.mkfifo(self._says)
        self._ear = os.open(self._says, os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""

    def spec(self, source: str, **keys: Any) -> ServiceSpec:
        """Write a module with a server `S` and return the spec of a service that runs it."""
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "app.py").write_text(textwrap.dedent(PRELUDE) + textwrap.dedent(source))
        environment = {"SAYS": str(self._says), "PYTHONDONTWRITEBYTECODE": "1", **keys.pop("environment", {})}
        given = {"name": "shop", "server": "app:S", "directory": str(code), "concurrency": "threads", **keys}
        return ServiceSpec(**given, environment=environment)

    def perform(self, command: Command) -> list[Event]:
        events = self.kernel.perform(command)
        self.events += events
        return events

    def start_zygote(self, spec: ServiceSpec, generation: int = 1) -> int:
        """Start a zygote; return its id."""
        id = next(self._ids)
        self.perform(StartZygote(id, generation, spec))
        return id

    def zygote(self, spec: ServiceSpec, generation: int = 1) -> int:
        """Start a zygote and wait until it has imported its code; return its id."""
        id = self.start_zygote(spec, generation)
        self.until(Ready, id)
        return id

    def spawn(self, zygote: int, slot: int = 0) -> int:
        """Have a worker forked; return its id."""
        id = next(self._ids)
        self.perform(Spawn(id, zygote, slot))
        return id

    def worker(self, zygote: int, slot: int = 0) -> int:
        """Have a worker forked and wait until it is ready; return its id."""
        id = self.spawn(zygote, slot)
        self.until(Ready, id)
        return id

    def signal(self, id: int, number: int) -> None:
        self.perform(Signal(id, number))

    def retire(self, generation: int = 1, service: str = "shop") -> None:
        self.perform(Retire(service, generation))

    def of(self, id: int) -> list[Event]:
        """What has happened to an incarnation so far."""
        return [event for event in self.events if getattr(event, "id", None) == id]

    def kinds(self, id: int) -> list[type]:
        return [type(event) for event in self.of(id)]

    def pid(self, id: int) -> int:
        return next(event.pid for event in self.of(id) if isinstance(event, Started))

    def pump(self) -> None:
        """Let the kernel wait once, at most for a moment."""
        self.events += self.kernel.wait(self.kernel.now() + 0.05)

    def until(self, kind: type, id: int | None = None) -> Any:
        """Wait for an event and return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for event in self.events:
                if isinstance(event, kind) and (id is None or event.id == id):
                    return event
            ended = id is not None and any(isinstance(event, Exited) for event in self.of(id))
            assert not ended, f"no {kind.__name__}, but {self.of(id or 0)}"
            assert time.monotonic() < deadline, f"no {kind.__name__} of {id}, only {self.events}"
            self.pump()

    def line(self) -> str:
        """Wait for what a service says next."""

        def complete() -> bool:
            self.pump()
            with contextlib.suppress(BlockingIOError):
                self._heard += os.read(self._ear, 65536)
            return b"\n" in self._heard

        until(complete, PATIENCE, "a line from the service")
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def until_dead(self, *pids: int) -> None:
        """Wait until these processes are no more, while the kernel works on."""

        def all_dead() -> bool:
            self.pump()
            return not any(map(alive, pids))

        until(all_dead, PATIENCE, f"the end of {pids}")

    def close(self) -> None:
        """End everything that was started, however it is."""
        self.kernel.close()
        # What a child leaves behind becomes a child in its turn.
        while own := set(psutil.Process().children()) - self._others:
            for child in own:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, 0)
        process._prctl(process._PR_SET_CHILD_SUBREAPER, 0)
        del os.environ[process.SUBREAPER]
        os.close(self._ear)


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def fds(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


__all__ = ["KILL", "PATIENCE", "Yard", "alive", "fds", "signal"]
