"""Every signal at every moment, on the launcher and on a worker."""

from __future__ import annotations

import os
import pathlib
import pty
import signal
import subprocess

import pytest

from tests.functional.installed import COMMAND, GATED, Installed, alive, loads
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


def test_quit_on_a_worker_ends_it_at_once_and_it_is_replaced(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    (victim,) = forkd.start().workers()
    os.kill(victim, signal.SIGQUIT)
    until(lambda: forkd.workers() not in ([], [victim]), what="a replacement")
    assert forkd.service()["workers"][0]["last_exit"]["code"] == 0


def test_usr2_on_a_worker_shows_its_stacks_and_changes_nothing(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(concurrency=concurrency)})
    before = forkd.start().workers()
    os.kill(before[0], signal.SIGUSR2)
    until(lambda: "(most recent call first)" in forkd.log.read_text(), what="the stacks")
    assert forkd.get() == f"one {before[0]}"


def test_hup_to_the_launchers_process_group_harms_no_helper_of_a_worker(forkd: Installed) -> None:
    forkd.write(
        "helped.py",
        """
import forkd, subprocess

class Helped(forkd.Server):
    def start(self):
        with open("helper", "w") as file:
            file.write(str(subprocess.Popen(["sleep", "1000"]).pid))

    def reset(self):
        open("reset", "w").close()
""",
    )
    forkd.configure({"helped": {"server": "helped:Helped", "reload": "signal", "concurrency": "threads"}})
    before = forkd.start().workers("helped")
    os.killpg(forkd.pid, signal.SIGHUP)
    until((forkd.folder / "reset").exists, what="reset() called")
    assert forkd.workers("helped") == before
    assert alive(int((forkd.folder / "helper").read_text()))


def test_hup_on_a_terminal_reloads_and_so_does_the_end_of_the_terminal(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    upper, lower = pty.openpty()
    forkd.process = subprocess.Popen(
        ["setsid", "--ctty", COMMAND, "start", "--config", forkd.config],
        stdin=lower, stdout=lower, stderr=lower, env=forkd.environment(), cwd=forkd.folder,
    )  # fmt: skip
    os.close(lower)
    forkd.until_running()
    forkd.signal(signal.SIGHUP)
    forkd.until_running(generation=2)
    os.close(upper)
    forkd.until_running(generation=3)
    assert forkd.get().startswith("one ")


def test_a_signal_before_the_service_is_up(forkd: Installed) -> None:
    forkd.write("app.py", GATED)
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
    forkd.write("app.py", GATED)
    forkd.signal(signal.SIGHUP)
    until((forkd.folder / "importing").exists, what="the reload under way")
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


def test_a_stop_before_the_launcher_is_up_is_a_clean_one(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start(ready=False)
    line = pathlib.Path(f"/proc/{forkd.pid}/cmdline")
    until(lambda: b"forkd.daemon" in line.read_bytes(), what="the exec of the launcher")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert forkd.left() == []
