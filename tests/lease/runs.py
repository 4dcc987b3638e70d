"""What tasks of the cluster wrote of their runs into one file, on whatever host, and what must be true of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each line: what, pid, host, token, instant. The clock is that of the machine, which all its namespaces share.
SERVER = """
import ctypes, os, time
import forkd
from forkd import lease as leases

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

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

    def well(self, lease):
        for _ in range(self.beats):
            if os.path.exists(f"{self.log}.short"):
                return
            self.service.thread_group.sleep(0.01)
            self.note("beat", lease)

    def checking(self, lease):
        for _ in range(self.beats):
            time.sleep(0.01)
            lease.check()
            self.note("beat", lease)

    def stubborn(self, lease):
        for _ in range(self.beats):
            if os.path.exists(f"{self.log}.short"):
                return
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
        self.stuck(lambda: os.kill(os.getpid(), 19))
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
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[list[str]]:
        """Return its whole lines, as words."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def whats(self) -> set[str]:
        """Return what has been written of any run."""
        return {line[0] for line in self.lines()}

    def runs(self) -> list[Seen]:
        """Return all runs, in the order of their tokens; fail when a token was given twice."""
        found: dict[int, Seen] = {}
        for what, pid, host, token, at in self.lines():
            if what == "begin":
                assert int(token) not in found, f"token {token} was given twice"
                found[int(token)] = Seen(int(token), int(pid), host, float(at), float(at), False)
            elif int(token) in found:
                run = found[int(token)]
                assert run.pid == int(pid)
                found[int(token)] = run._replace(last=float(at), ended=what == "end")
        return [found[token] for token in sorted(found)]

    def await_run(self, wanted: Callable[[Seen], bool], timeout: float = 15.0) -> Seen:
        """Return the last run, once it is as wanted."""
        return until(lambda: next((run for run in self.runs()[-1:] if wanted(run)), None), timeout, "such a run")

    def judge(self) -> list[Seen]:
        """Return all runs, none of which overlapped with another: tokens grow as time does."""
        runs = self.runs()
        for one, after in itertools.pairwise(runs):
            assert one.last < after.begun, f"two at once: {one} and {after}"
        assert "beside" not in self.whats(), "one began while a stuck one lived"
        return runs
