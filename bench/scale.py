"""Scale: what a thousand workers cost the launcher, and the operator who looks at them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import figures, idle, peers
from forkd.control.client import Client
from forkd.core.commands import Look, Spawn, StartZygote
from forkd.core.events import Exited, Ready, Seen, Started
from forkd.core.spec import Config, ServiceSpec
from forkd.core.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.events import Event

WORKERS = 1000
ROUNDS = 10
SECONDS = 60.0  # of rest: twice the hang_timeout, so that its deadlines are among what is counted

CONFIG = """
runtime_dir: {work}/run
services:
  trivial:
    server: bench.apps.trivial:Trivial
    workers: {workers}
    concurrency: threads
    pythonpath: ["{root}"]
"""


class Crowd(NamedTuple):
    """A launcher whose workers are all ready, its runtime directory, and how many seconds that took."""

    pid: int
    runtime_dir: str
    seconds: float


def measure() -> None:
    """Print what WORKERS workers cost."""
    plans, deadlines = _turns()
    with _running() as crowd:
        status = [peers.in_path("forkd"), "status", "--runtime-dir", crowd.runtime_dir]
        looks = [_seconds_of(status) for _ in range(ROUNDS)]
        kills = [_kill(crowd, slot) for slot in range(ROUNDS)]  # one each: a second death would wait
        time.sleep(5)
        before = idle.wakeups(crowd.pid)
        time.sleep(SECONDS)
        per_second = (idle.wakeups(crowd.pid) - before) / SECONDS
        resident = idle.kilobytes(crowd.pid, "status", "VmRSS") / 1024
        began = time.monotonic()
    rows = [
        ["from the command to the last worker's `ready`", f"{crowd.seconds:.1f} s"],
        ["a turn: the plan", f"{figures.milliseconds(statistics.median(plans))}"],
        ["a turn: its next deadline", f"{figures.milliseconds(statistics.median(deadlines))}"],
        ["forkd status, the whole process", figures.milliseconds(statistics.median(looks))],
        ["kill -9 of a worker → the next one is ready", figures.milliseconds(statistics.median(kills))],
        ["the launcher, resident", f"{resident:.1f} MiB"],
        ["the launcher at rest, wake-ups per second", f"{per_second:.2f}"],
        ["from TERM to its end", f"{time.monotonic() - began:.1f} s"],
    ]
    figures.table(f"{WORKERS:,} workers of a service that does nothing", ["", ""], rows)


@contextlib.contextmanager
def _running() -> Iterator[Crowd]:
    """Start the launcher, yield once it says that all is ready, and stop it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        config = Path(work) / "services.yaml"
        config.write_text(CONFIG.format(work=work, workers=WORKERS, root=peers.ROOT), "utf-8")
        told.bind(f"{work}/notify")
        told.settimeout(300)
        command = [peers.in_path("forkd"), "start", "--config", str(config)]
        began = time.monotonic()
        with (Path(work) / "output").open("wb") as output:
            environment = {**os.environ, "NOTIFY_SOCKET": f"{work}/notify"}
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while b"READY=1" not in told.recv(4096).split(b"\n"):
                pass
            seconds = time.monotonic() - began
            told.close()  # else a queue that nobody reads has the launcher try again and again
            yield Crowd(process.pid, f"{work}/run", seconds)
        finally:
            process.terminate()
            process.wait(120)


def _seconds_of(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _kill(crowd: Crowd, slot: int) -> float:
    """Kill a worker; return the seconds until the launcher has another one ready in its slot."""
    with Client(crowd.runtime_dir) as client:
        victim = client.status()["services"][0]["workers"][slot]
        os.kill(victim["pid"], signal.SIGKILL)
        began = time.monotonic()
        while True:
            workers = client.status()["services"][0]["workers"]
            found = next((worker for worker in workers if worker["slot"] == slot), victim)
            if found["id"] != victim["id"] and found["phase"] == "ready":
                return time.monotonic() - began


def _turns() -> tuple[list[float], list[float]]:
    """Kill workers of a supervisor without processes; return the seconds of each plan, and of each next deadline."""
    drill = _Drill()
    drill.settle()
    drill.plans.clear()
    drill.deadlines.clear()
    for id in drill.ready[: ROUNDS * 10]:
        drill.now += 1.0
        drill.observe(Exited(id, None, signal.SIGKILL))
        drill.settle()
    return drill.plans, drill.deadlines


class _Drill:
    """The deciding half of the launcher with as many workers, which are ready as soon as they are wanted."""

    def __init__(self) -> None:
        self.now = 0.0
        self.plans: list[float] = []
        self.deadlines: list[float] = []
        self.ready: list[int] = []
        spec = ServiceSpec("trivial", "bench.apps.trivial:Trivial", workers=WORKERS)
        self._supervisor = Supervisor(Config("/run/forkd", services=(spec,)), self.now)

    def settle(self) -> None:
        """Take turns, an event each, until nothing more comes of them."""
        waiting = self._turn()
        while waiting:
            event = waiting.pop(0)
            self.observe(event)
            if isinstance(event, Ready):
                self.ready.append(event.id)
            waiting += self._turn()

    def observe(self, event: Event) -> None:
        self._supervisor.observe(event, self.now)

    def _turn(self) -> list[Event]:
        began = time.perf_counter()
        commands = self._supervisor.plan(self.now)
        self.plans.append(time.perf_counter() - began)
        events = [event for command in commands for event in self._perform(command)]
        self._supervisor.take_news()
        if not events:
            began = time.perf_counter()
            self._supervisor.deadline()
            self.deadlines.append(time.perf_counter() - began)
        return events

    def _perform(self, command: Command) -> list[Event]:
        match command:
            case StartZygote(id) | Spawn(id):
                return [Started(id, id), Ready(id)]
            case Look(id):
                self.observe(Seen(id, self.now))
        return []
