"""The forkd that all is done to: a service of each kind, and its processes as the operating system has them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
from typing import Any, NamedTuple

from tests.chaos.script import SPARE, WORKER, ZYGOTE
from tests.functional.installed import COMMAND, Installed, alive

WEB = ("green", "native", "late")
CALLED, TICKING = "adder", "ticker"
_TITLE = re.compile(rb"forkd: (\w+)(?:/\d+| (zygote|spare)) gen \d+")
_EVERY = {
    "restart": {"healthy_after": "500ms", "delay": "50ms", "max_delay": "500ms"},
    "hang_timeout": "2s",
    "start_timeout": "10s",
    "stop_timeout": "10s",
    "kill_timeout": "1s",
}


class Player(NamedTuple):
    """One process of a service."""

    service: str
    role: str
    pid: int


class Stage(Installed):
    """An installed forkd with its services."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.web_ports = {name: self.ports.take() for name in WEB}
        self.ticks = folder / "ticks"
        native: dict[str, Any] = {"concurrency": "threads"}
        services: dict[str, dict[str, Any]] = {
            "green": {"workers": 3},
            "native": {"workers": 2, **native},
            "late": {"workers": 2, "preload": False, **native},
        }
        for name, port in self.web_ports.items():
            services[name] |= {"server": "wsgi", "app": "app:application", "bind": [f"127.0.0.1:{port}"]}
        services[CALLED] = {"server": "adder:Adder", "topic": CALLED, "workers": 2}
        services[TICKING] = {"server": "ticker:Ticker", "args": {"path": str(self.ticks)}, **native}
        self.names = sorted(services)
        self.configure(services, defaults=_EVERY)

    def players(self, role: str) -> list[Player]:
        """Return the living processes of a role, in an order that does not depend on when they were born."""
        found = []
        for pid in self.children():
            title = _TITLE.match(read(f"/proc/{pid}/cmdline"))
            if title and alive(pid):
                found.append(Player(title[1].decode(), (title[2] or WORKER.encode()).decode(), pid))
        return sorted(player for player in found if player.role == role)

    def children(self) -> list[int]:
        """Return the launcher's children, the dead that it has not reaped among them."""
        return [int(pid) for pid in read(f"/proc/{self.pid}/task/{self.pid}/children").split()]

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a forkd command on this launcher."""
        environment = {**self.environment(), "FORKD_RUNTIME_DIR": str(self.runtime_dir)}
        return subprocess.Popen(
            [COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )

    def lacks(self, doomed: set[int]) -> list[str]:
        """Return which services have fewer ready workers than they are to have; those `doomed` do not count."""

        def ready(one: dict[str, Any]) -> int:
            return sum(worker["phase"] == "ready" and worker["pid"] not in doomed for worker in one["workers"])

        return [str(one) for one in self.status().get("services", []) if ready(one) < one["wanted"]]

    def unsettled(self, doomed: set[int]) -> list[str]:
        """Return what of the launcher and its services is not as wanted, or more than that."""
        status = self.status()
        found = [one for one in status.get("services", []) if one["state"] != "running" or one["zygote_pid"] in doomed]
        crowded = [one for one in status.get("services", []) if len(one["workers"]) != one["wanted"]]
        launcher = status.get("forkd", {})
        return [*map(str, found + crowded), *([] if launcher.get("state") == "running" else [str(launcher)])]

    def has_spares(self) -> bool:
        """Tell whether each service has its spare."""
        return {player.service for player in self.players(SPARE)} == set(self.names)

    def strays(self) -> list[str]:
        """Return what is there beside the launcher, and for each service its workers, one zygote and at most one spare."""
        services = self.status()["services"]
        known = {self.pid} | {s["zygote_pid"] for s in services} | {w["pid"] for s in services for w in s["workers"]}
        spares = {player.service: player.pid for player in self.players(SPARE)}
        strays = set(self.left()) - known - set(spares.values())
        zombies = [pid for pid in self.children() if not alive(pid)]
        return [*map(describe, strays), *(f"{pid}: dead and not reaped" for pid in zombies)]

    def descriptors(self) -> dict[str, int]:
        """Return how many descriptors the launcher and each service's zygote hold."""
        holders = {"the launcher": self.pid} | {player.service: player.pid for player in self.players(ZYGOTE)}
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in holders.items()}

    def leaks(self, before: dict[str, int]) -> list[str]:
        """Return who has more descriptors than before."""
        now = self.descriptors()
        return [f"{name}: {now[name]}, before {before[name]}" for name in before if now.get(name, 0) > before[name]]

    def resident(self) -> int:
        """Return the launcher's memory in KiB."""
        return int(re.search(rb"VmRSS:\s+(\d+)", read(f"/proc/{self.pid}/status"))[1])


def read(path: str) -> bytes:
    """Return a file's content, empty when its process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(path).read_bytes()
    return b""


def describe(pid: int) -> str:
    title = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode().strip()
    parent = re.search(rb"PPid:\s+(\d+)", read(f"/proc/{pid}/status"))
    return f"{pid}: {title or 'nameless'}, child of {int(parent[1]) if parent else '?'}"
