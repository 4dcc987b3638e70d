"""What tasks of the cluster wrote of their runs into one file, on whatever host, and what must be true of it."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Each line: what, pid, host, token, instant. The clock is that of the machine, which all its namespaces share.
SERVER = """
import ctypes, os, time
import forkd
from forkd import lease as leases

def alive(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            told = dict(line.rstrip().split(":\\t", 1) for line in file)
    except OSError:
        return False
    # Who has a KILL pending executes nothing more, however long he waits for a processor to end on.
    killed = (int(told["SigPnd"], 16) | int(told["ShdPnd"], 16)) & 1 << 8
    return told["State"][0] not in "ZX" and not killed

class Busy(forkd.Server):
    def __init__(self, log, beats=10, manner="well"):
        self.log, self.beats, self.manner = log, beats, manner

    def note(self, what, lease):
        line = f"{what} {os.getpid()} {os.uname().nodename} {lease.token} {time.clock_gettime(time.CLOCK_BOOTTIME)}\\n"
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)

    @forkd.periodic_task(spacing=0.2, run_immediately=True, scope="cluster")
    def task(self, lease):
        if os.path.exists(f"{self.log}.stuck") and alive(int(open(f"{self.log}.stuck").read())):
            self.note("beside", lease)
        self.note("begin", lease)
        getattr(self, self.manner)(lease)
        self.note("end", lease)

    def rhythm(self):
        for _ in range(self.beats):
            if os.path.exists(f"{self.log}.short-on-{os.uname().nodename}"):
                return
            yield

    def well(self, lease):
        for _ in self.rhythm():
            self.service.thread_group.sleep(0.01)
            self.note("beat", lease)

    def checking(self, lease):
        for _ in self.rhythm():
            time.sleep(0.01)
            lease.check()
            self.note("beat", lease)

    def stubborn(self, lease):
        for _ in self.rhythm():
            try:
                time.sleep(0.01)
            except leases.LeaseLost:
                self.note("deaf", lease)
            self.note("beat", lease)

    def stuck(self, how):
        try:
            fd = os.open(f"{self.log}.stuck", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.write(fd, str(os.getpid()).encode())
        how()

    def spinning(self, lease):
        def spin():
            while True:
                pass
        self.stuck(spin)

    def blocking(self, lease):
        def block():
            while True:
                ctypes.CDLL(None).sleep(60)
        self.stuck(block)

    def clutching(self, lease):  # the interpreter's lock
        def clutch():
            while True:
                ctypes.PyDLL(None).sleep(60)
        self.stuck(clutch)

    def stopped(self, lease):
        def stop():
            os.kill(os.getpid(), 19)
            while True:  # this thread may go on for a moment
                time.sleep(60)
        self.stuck(stop)
"""


class Seen(NamedTuple):
    """What is known of one run."""

    token: int
    pid: int
    host: str
    begun: float
    last: float
    ended: bool


class Log:
    """The file, which is read on from where it was left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._whats: set[str] = set()
        self._runs: dict[int, Seen] = {}

    @contextlib.contextmanager
    def short_on(self, host: str = os.uname().nodename) -> Iterator[None]:
        """Have runs on a host end at once."""
        short = self.path.with_suffix(f".short-on-{host}")
        short.touch()
        try:
            yield
        finally:
            short.unlink()

    def whats(self) -> set[str]:
        """Return what has been written of any run."""
        self._read()
        return self._whats

    def runs(self) -> list[Seen]:
        """Return all runs, in the order of their tokens; fail when a token was given twice."""
        self._read()
        return [self._runs[token] for token in sorted(self._runs)]

    def run(self, token: int) -> Seen:
        """Return the run of a token."""
        self._read()
        return self._runs[token]

    def await_run(self, wanted: Callable[[Seen], bool], timeout: float = 15.0) -> Seen:
        """Return the last run, once it is as wanted."""
        (found,) = until(lambda: [run for run in self.runs()[-1:] if wanted(run)], timeout, "such a run")
        return found

    def judge(self) -> list[Seen]:
        """Return all runs, none of which overlapped with another: tokens grow as time does."""
        runs = self.runs()
        for one, after in itertools.pairwise(runs):
            assert one.last < after.begun, f"two at once: {one} and {after}"
        assert "beside" not in self.whats(), "one began while a stuck one lived"
        return runs

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            self._note(*line.split())

    def _note(self, what: str, pid: str, host: str, token: str, at: str) -> None:
        self._whats.add(what)
        run = self._runs.get(int(token))
        if what == "begin":
            assert run is None, f"token {token} was given twice"
            self._runs[int(token)] = Seen(int(token), int(pid), host, float(at), float(at), False)
        elif run is not None:
            assert run.pid == int(pid)
            self._runs[int(token)] = run._replace(last=float(at), ended=what == "end")
