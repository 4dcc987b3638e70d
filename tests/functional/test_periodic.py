"""Periodic tasks of the scope `service` under the daemon: one worker of several runs them, whatever happens to it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.functional.installed import Installed
from tests.waiting import until

OFTEN = """
import os
import forkd

class Sharing(forkd.Server):
    @forkd.periodic_task(spacing=0.05, scope="service")
    def often(self):
        with open("often", "a") as file:
            file.write(f"{os.getpid()}\\n")

    @forkd.periodic_task(spacing=3600, run_immediately=True, scope="service")
    def seldom(self):
        with open("seldom", "a") as file:
            file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def sharing(forkd: Installed, concurrency: str) -> Installed:
    """Start three workers that share their tasks, and wait for the first calls."""
    forkd.write("sharing.py", OFTEN)
    forkd.configure({"web": {"server": "sharing:Sharing", "workers": 3, "concurrency": concurrency}})
    forkd.start()
    calls_of(forkd, "often", 5)
    return forkd


def calls_of(forkd: Installed, task: str, least: int) -> list[int]:
    """Return by which workers a task has been run, once it has been so many times."""
    file = forkd.folder / task

    def calls() -> list[int]:
        found = [int(line) for line in file.read_text().splitlines()] if file.exists() else []
        return found if len(found) >= least else []

    return until(calls, what=f"{least} calls of {task}")


def test_one_worker_runs_them_until_it_dies_and_then_another_does(sharing: Installed) -> None:
    (holder,) = set(calls_of(sharing, "often", 10))
    assert holder in sharing.workers()
    os.kill(holder, signal.SIGKILL)
    calls = until(lambda: [pid for pid in calls_of(sharing, "often", 1) if pid != holder][10:], what="another worker")
    assert len(set(calls)) == 1
    assert len(calls_of(sharing, "seldom", 1)) == 1, "immediately is once, in whichever worker has claimed it"


def test_a_reload_passes_them_on(sharing: Installed) -> None:
    before = sharing.workers()
    assert sharing.run("reload").returncode == 0
    after = sharing.workers()
    assert not set(before) & set(after)
    until(lambda: set(calls_of(sharing, "often", 1)[-5:]) <= set(after), what="the new workers")
    calls = calls_of(sharing, "often", 1)
    assert calls == sorted(calls, key=calls.index), "none came back to one that had passed it on"
    assert set(calls_of(sharing, "seldom", 1)) <= set(before)
    assert len(calls_of(sharing, "seldom", 1)) == 1
    assert "Traceback" not in sharing.log.read_text()
