"""Who was hit, and whose request may fail for it: only one that was with the process that was hit."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import time
from typing import NamedTuple

from tests.chaos.script import ZYGOTE
from tests.chaos.stage import Player, read
from tests.waiting import until

# What ends a process without asking it. TERM does not: whoever drains owes every answer.
_CRUEL = {signal.SIGKILL, signal.SIGABRT, signal.SIGQUIT, signal.SIGSTOP}
_DEADLY = {signal.SIGKILL, signal.SIGABRT}  # for any process; a zygote heeds neither TERM nor QUIT
_LINGERING = {signal.SIGQUIT, signal.SIGABRT}  # what a worker heeds for a moment: with ABRT it dumps its stacks
_LAST_MOMENT = 1.0  # seconds within which it has ended then
_ESTABLISHED = re.compile(r"^ *\d+: \w+:\w+ \w+:(\w+) 0[18] (?:\S+ +){5}(\d+)", re.MULTILINE)


class Victim(NamedTuple):
    """A process that was hit at an instant; `ports` are those of the clients whose connections it held."""

    player: Player
    signal: signal.Signals
    at: float
    ports: frozenset[int]


class Failure(NamedTuple):
    """A request without an answer; `pid` is that of the worker, `port` that of the client, as far as they are known."""

    service: str
    pid: int | None
    port: int | None
    began: float
    ended: float
    error: str


class Victims:
    """All of them so far. Filled by one thread, read by many."""

    def __init__(self) -> None:
        self.all: list[Victim] = []
        self.cruelly: dict[int, Victim] = {}

    def hit(self, player: Player, number: signal.Signals) -> None:
        """Send a signal, once it is noted whom that may cost an answer."""
        cruel = number in _CRUEL
        with contextlib.suppress(ProcessLookupError):
            ports = _frozen(player.pid) if cruel else frozenset()
            victim = Victim(player, number, time.monotonic(), ports)
            self.all.append(victim)
            if cruel:
                self.cruelly[player.pid] = victim
            os.kill(player.pid, number)
            if cruel and number not in {signal.SIGSTOP, signal.SIGKILL}:
                os.kill(player.pid, signal.SIGCONT)

    def doomed(self) -> set[int]:
        """Return the processes that must not be there any more."""
        deadly = {victim.player.pid for victim in self.all if victim.signal in _DEADLY}
        asked = {signal.SIGTERM, signal.SIGQUIT}
        return deadly | {v.player.pid for v in self.all if v.signal in asked and v.player.role != ZYGOTE}

    def excuse(self, failure: Failure) -> bool:
        """Tell whether the request was with a process that was hit."""
        if failure.pid is not None:
            return failure.pid in self.cruelly
        return any(self._was_with(victim, failure) for victim in list(self.cruelly.values()))

    def _was_with(self, victim: Victim, failure: Failure) -> bool:
        if victim.player.service != failure.service or victim.at > failure.ended:
            return False
        if victim.signal in _LINGERING or failure.port is None:
            # It may have taken this one between the signal and its end, which may be over when the failure is noted.
            return failure.began < victim.at + _LAST_MOMENT or _lives(victim.player.pid)
        return victim.at >= failure.began and failure.port in victim.ports


def _lives(pid: int) -> bool:
    return pathlib.Path(f"/proc/{pid}").exists()


def _frozen(pid: int) -> frozenset[int]:
    """Stop a process, so that it takes nothing new; return the ports of the clients that it is connected to."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _state(pid) in {"T", "Z", "X", ""}, what=f"process {pid} stopped")
    inodes = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(fd))
    table = pathlib.Path("/proc/net/tcp").read_text()
    return frozenset(int(port, 16) for port, inode in _ESTABLISHED.findall(table) if f"socket:[{inode}]" in inodes)


def _state(pid: int) -> str:
    return read(f"/proc/{pid}/stat").rpartition(b")")[2][1:2].decode()
