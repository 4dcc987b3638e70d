"""Periodic tasks under the daemon: those of the scope `service` have one worker of several; what became of all is told."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

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

VARIOUS = """
import forkd

class Various(forkd.Server):
    @forkd.periodic_task(spacing=0.02)
    def well(self):
        pass

    @forkd.periodic_task(spacing=0.02)
    def badly(self):
        raise KeyError("DSN")

    @forkd.periodic_task(spacing=0.02, timeout=0.02)
    def slowly(self):
        self.service.thread_group.sleep(0.1)

    @forkd.periodic_task(spacing=3600)
    def never(self):
        pass
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


def test_status_tells_what_became_of_them(forkd: Installed, concurrency: str) -> None:
    forkd.write("various.py", VARIOUS)
    forkd.configure({"web": {"server": "various:Various", "workers": 1, "concurrency": concurrency}})
    forkd.start()

    def tasks(where: str) -> dict[str, dict[str, Any]]:
        (service,) = json.loads(forkd.run("status", "web", "--json").stdout)["services"]
        found = service["totals"] if where == "totals" else service["workers"][0]
        return {task["name"]: task for task in found["tasks"]}

    def all_have_run() -> dict[str, dict[str, Any]]:
        found = tasks("worker")
        counted = found["well"]["ok"] and found["badly"]["failed"] and found["slowly"]["late"]
        return found if counted and found["slowly"]["skipped"] else {}

    before = until(all_have_run, what="calls of each kind")
    assert list(before) == ["well", "badly", "slowly", "never"]
    never = {"name": "never", "ok": 0, "failed": 0, "late": 0, "skipped": 0, "lateness": None, "last_run": None}
    assert before["never"] == never
    assert before["well"]["failed"] == before["well"]["late"] == before["badly"]["ok"] == 0
    assert 0 <= before["well"]["lateness"] < 10
    assert before["well"]["last_run"].endswith("Z")

    os.kill(forkd.workers()[0], signal.SIGKILL)
    forkd.until_running()
    after = tasks("totals")
    for task in before:
        assert all(after[task][outcome] >= before[task][outcome] for outcome in ("ok", "failed", "late", "skipped"))
    shown = [line.split() for line in forkd.run("status", "web").stdout.splitlines()]
    assert ["TASK", "OK", "FAILED", "LATE", "SKIPPED", "LATENESS", "LAST", "RUN"] in shown
    assert ["never", "0", "0", "0", "0", "-", "-"] in shown
    assert "TASK" not in forkd.run("status").stdout
