"""Every signal at every moment, on the launcher and on a worker."""

from __future__ import annotations

import os
import signal

import pytest

from tests.functional.installed import Installed, loads
from tests.waiting import until


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_stop_drains_and_is_replaced(forkd: Installed, concurrency: str, signum: int) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    forkd.start()
    with loads(forkd.port) as clients:
        victim = forkd.workers()[0]
        os.kill(victim, signum)
        until(lambda: len(set(forkd.workers()) - {victim}) == 2, what="a replacement")
    assert [client.failures for client in clients] == [[], []]
    until(lambda: any(w["last_exit"] for w in forkd.service()["workers"]), what="its end in the status")
    last = next(w["last_exit"] for w in forkd.service()["workers"] if w["last_exit"])
    assert (last["code"], last["reason"]) == (0, "drained after a signal from outside")


def test_hup_on_a_worker_resets_it_in_place(forkd: Installed, concurrency: str) -> None:
    forkd.write(
        "resetting.py",
        """
import forkd

class Resetting(forkd.Server):
    def reset(self):
        open("reset", "a").write("x")
""",
    )
    forkd.configure({"resetting": {"server": "resetting:Resetting", "concurrency": concurrency}})
    before = forkd.start().workers("resetting")
    os.kill(before[0], signal.SIGHUP)
    until((forkd.folder / "reset").exists, what="reset() called")
    assert forkd.workers("resetting") == before


def test_a_signal_before_the_service_is_up(forkd: Installed) -> None:
    forkd.write("app.py", "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n")
    forkd.configure({"web": forkd.web()})
    forkd.start(ready=False)
    until((forkd.folder / "importing").exists, what="the import under way")
    forkd.signal(signal.SIGHUP)
    forkd.signal(signal.SIGTERM)
    assert forkd.wait(20) == 0
    assert forkd.left() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_in_the_middle_of_a_reload(forkd: Installed, signum: int) -> None:
    forkd.configure({"web": forkd.web(workers=3)})
    forkd.start()
    forkd.signal(signal.SIGHUP)
    until(lambda: forkd.status()["forkd"]["state"] == "reloading", what="the reload under way")
    forkd.signal(signum)
    assert forkd.wait() == 0
    assert forkd.left() == []


def test_a_storm_of_all_signals_ends_in_a_clean_stop(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    forkd.start()
    for _ in range(200):
        forkd.signal(signal.SIGHUP)
        forkd.signal(signal.SIGCHLD)
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert forkd.left() == []


def test_hup_reloads_also_without_a_configuration_change(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    before = forkd.start().workers()
    forkd.signal(signal.SIGHUP)
    forkd.until_running(generation=2)
    assert forkd.workers() != before
