"""The shipped unit under a real systemd: what `systemctl` says is so."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import alive
from tests.functional.systemd_box import ROOT, SystemdBox, require_systemd
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = "forkd.service"
# `stop` is how long its drain takes; `gate` is a FIFO that its start waits at.
BEACON = """
import os, pathlib, threading
import forkd

VERSION = "one"

class Beacon(forkd.Server):
    def __init__(self, folder, drain=0, gate=None):
        self.folder = pathlib.Path(folder)
        self.drain = drain
        if gate:
            with open(gate) as file:
                file.read()

    def start(self):
        super().start()
        (self.folder / "version").write_text(VERSION)
        (self.folder / "environ").write_text("\\n".join(os.environ))

    def stop(self, graceful=True):
        threading.Event().wait(self.drain)
        with (self.folder / "drained").open("a") as file:
            file.write(f"{os.getpid()}\\n")
"""
WITH_TROUBLE = """
import logging
class Beacon(Beacon):
    def start(self):
        super().start()
        logging.warning("low on oil")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("broken")
"""


class Box(SystemdBox):
    """A systemd with the shipped unit, its configuration in the box's folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.config = folder / "services.yaml"

    def up(self) -> None:
        super().up()
        text = (ROOT / "systemd" / UNIT).read_text()
        assert "--config /etc/forkd/services.yaml" in text
        (self.units / UNIT).write_text(text.replace("/etc/forkd/services.yaml", str(self.config)))

    def begin(self, services: dict[str, dict[str, Any]], drop_in: str = "") -> None:
        """Put everything back to where a test starts: nothing runs, the unit is as shipped but for `drop_in`."""
        self.systemctl("stop", UNIT)
        self.systemctl("reset-failed", UNIT)
        for name in ("drained", "version", "environ", "gate", "log"):
            (self.folder / name).unlink(missing_ok=True)
        self.write(BEACON)
        self.configure(services)
        drop_ins = self.units / f"{UNIT}.d"
        drop_ins.mkdir(exist_ok=True)
        (drop_ins / "test.conf").write_text(f"[Service]\nStandardError=append:{self.folder}/log\n{drop_in}\n")
        self.systemctl("daemon-reload")

    def write(self, code: str) -> None:
        new = self.folder / "beacon.new"
        new.write_text(code)
        for cached in (self.folder / "__pycache__").glob("beacon.*"):
            cached.unlink()
        new.rename(self.folder / "beacon.py")

    def configure(self, services: dict[str, dict[str, Any]]) -> None:
        self.config.write_text(json.dumps({"services": services}))

    def configure_log(self, **log: str) -> None:
        self.config.write_text(json.dumps({**json.loads(self.config.read_text()), "log": log}))

    def beacon(self, **arguments: Any) -> dict[str, Any]:
        return {
            "server": "beacon:Beacon",
            "args": {"folder": str(self.folder), **arguments},
            "directory": str(self.folder),
            "concurrency": "threads",
        }

    def state(self) -> str:
        return self.systemctl("is-active", UNIT).stdout.strip()

    def status(self) -> dict[str, Any]:
        done = self.run("forkd", "status", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return found

    def start(self) -> None:
        done = self.systemctl("start", UNIT)
        assert done.returncode == 0, done.stderr + (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    require_systemd()
    with tempfile.TemporaryDirectory(prefix="fkd-", dir="/tmp") as folder:
        box = Box(pathlib.Path(folder))
        try:
            box.up()
            yield box
        finally:
            box.down()


def test_active_means_ready(box: Box) -> None:
    gate = box.folder / "gate"
    box.begin({"beacon": box.beacon(gate=str(gate))})
    os.mkfifo(gate)
    box.systemctl("start", "--no-block", UNIT)
    until(lambda: [w["phase"] for s in box.status().get("services", []) for w in s["workers"]], 30.0, "a worker")
    assert box.state() == "activating"
    assert "0 of 1 services as wanted" in box.show(UNIT)["StatusText"]
    gate.open("w").close()
    until(lambda: box.state() == "active", what="READY=1")
    shown = box.show(UNIT)
    assert shown["StatusText"] == "running: 1 of 1 services as wanted, 1 workers ready"
    assert shown["MainPID"] == str(box.status()["forkd"]["pid"])


def test_reload_rolls_and_returns_when_it_is_done(box: Box) -> None:
    box.begin({"beacon": box.beacon()})
    box.start()
    before = box.show(UNIT)["MainPID"]
    box.write(BEACON.replace('"one"', '"two"'))
    done = box.systemctl("reload", UNIT)
    assert done.returncode == 0, done.stderr
    assert (box.folder / "version").read_text() == "two"
    assert box.state() == "active"
    assert box.show(UNIT)["MainPID"] == before
    assert box.status()["services"][0]["generation"] == 2


def test_a_reload_that_fails_fails_and_the_old_serves_on(box: Box) -> None:
    box.begin({"beacon": box.beacon()})
    box.start()
    before = box.status()["services"][0]["workers"]
    box.configure({"beacon": {**box.beacon(), "wrokers": 2}})
    assert box.systemctl("reload", UNIT).returncode != 0
    box.configure({"beacon": box.beacon()})
    box.write("raise KeyError('DSN')")
    assert box.systemctl("reload", UNIT).returncode != 0
    assert box.state() == "active"
    assert [w["pid"] for w in box.status()["services"][0]["workers"]] == [w["pid"] for w in before]
    assert "KeyError: 'DSN'" in box.status()["forkd"]["last_reload"]["error"]


def test_a_reload_asked_of_forkd_itself_shows_in_systemd_too(box: Box) -> None:
    gate = box.folder / "gate"
    box.begin({"beacon": box.beacon()})
    box.start()
    os.mkfifo(gate)
    box.configure({"beacon": box.beacon(gate=str(gate))})
    assert box.run("forkd", "reload", "--no-wait").returncode == 0
    until(lambda: box.state() == "reloading", what="RELOADING=1")
    gate.open("w").close()
    until(lambda: box.state() == "active", what="READY=1")


def test_stop_drains_as_long_as_the_configuration_allows(box: Box) -> None:
    box.begin({"beacon": box.beacon(drain=2.5)}, "TimeoutStopSec=1s")
    box.start()
    worker = box.status()["services"][0]["workers"][0]["pid"]
    assert box.systemctl("stop", UNIT).returncode == 0
    assert (box.folder / "drained").read_text() == f"{worker}\n"
    shown = box.show(UNIT)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    assert box.processes(UNIT) == set()


def test_a_killed_launcher_is_started_again_and_leaves_no_orphan(box: Box) -> None:
    box.begin({"beacon": {**box.beacon(), "workers": 2}})
    box.start()
    before, main = box.processes(UNIT), box.show(UNIT)["MainPID"]
    assert len(before) >= 4  # the launcher, a zygote, two workers
    box.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT)
    until(lambda: box.show(UNIT)["NRestarts"] == "1" and box.state() == "active", 30.0, "the restart")
    assert box.show(UNIT)["MainPID"] != main
    assert not before & box.processes(UNIT)
    assert not [pid for pid in before if alive(pid)]
    assert [s["ready"] for s in box.status()["services"]] == [2]


def test_a_launcher_that_hangs_is_replaced(box: Box) -> None:
    box.begin({"beacon": box.beacon()}, "WatchdogSec=1s")
    box.start()
    main = box.show(UNIT)["MainPID"]
    until(lambda: float(box.status()["forkd"]["uptime"]) > 2.5, what="more than two times the watchdog's time")
    assert box.show(UNIT)["MainPID"] == main
    box.systemctl("kill", "--kill-whom=main", f"--signal={signal.SIGSTOP.value}", UNIT)
    until(lambda: box.show(UNIT)["NRestarts"] == "1" and box.state() == "active", 30.0, "the restart")
    assert box.show(UNIT)["MainPID"] != main


@pytest.mark.parametrize("broken", ["configuration", "command line"])
def test_what_no_restart_can_heal_is_not_restarted(box: Box, broken: str) -> None:
    drop_in = "" if broken == "configuration" else "ExecStart=\nExecStart=forkd start --no-such-option"
    box.begin({"beacon": {**box.beacon(), "wrokers": 2}}, drop_in)
    assert box.systemctl("start", UNIT).returncode != 0
    shown = box.show(UNIT)
    assert (shown["SubState"], shown["NRestarts"]) == ("failed", "0")
    assert shown["ExecMainStatus"] == ("78" if broken == "configuration" else "2")


def test_one_broken_service_does_not_fail_the_unit(box: Box) -> None:
    box.begin({"beacon": box.beacon(), "lamp": {"server": "lamp:Lamp", "directory": str(box.folder)}})
    (box.folder / "lamp.py").write_text("raise KeyError('bulb')")
    box.start()
    assert box.state() == "active"
    shown = box.show(UNIT)["StatusText"]
    assert "1 of 2 services as wanted" in shown
    assert "KeyError: 'bulb'" in shown


def test_ready_waits_for_no_service_that_has_failed_or_stands_behind_one(box: Box) -> None:
    broken = {**box.beacon(), "server": "lamp:Lamp", "concurrency": "threads"}
    services = {
        "beacon": box.beacon(),
        "lamp": broken,
        "mail": {**broken, "restart": {"max_restarts": 1, "delay": "10ms"}},
        "hall": {**box.beacon(), "after": ["lamp"]},
    }
    box.begin(services)
    (box.folder / "lamp.py").write_text("raise KeyError('bulb')")
    box.start()
    until(lambda: {s["name"]: s["state"] for s in box.status()["services"]}["mail"] == "failed", what="the last try")
    assert box.state() == "active"
    shown = box.show(UNIT)["StatusText"]
    assert shown.startswith("running: 1 of 4 services as wanted, 1 workers ready; lamp backoff (")
    assert "; hall starting (waits for lamp)" in shown
    assert "; mail failed (2 failures within " in shown


def test_services_drop_to_their_users_under_the_units_hardening(box: Box) -> None:
    box.begin({"beacon": {**box.beacon(), "user": "nobody", "umask": "027"}})
    box.folder.chmod(0o777)
    box.start()
    assert (box.folder / "version").exists(), str(box.status()) + (box.folder / "log").read_text()
    assert (box.folder / "version").owner() == "nobody", (box.folder / "log").read_text()


def test_nothing_of_systemds_environment_reaches_a_worker(box: Box) -> None:
    box.begin({"beacon": box.beacon()})
    box.start()
    names = set((box.folder / "environ").read_text().split())
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"}
    assert "FORKD_RUNTIME_DIR" in names


def test_the_journal_has_lines_by_their_priorities_and_without_a_second_time_of_day(box: Box) -> None:
    box.begin({"beacon": box.beacon(), "lamp": box.beacon() | {"server": "lamp:Lamp"}}, "StandardError=journal")
    box.write(BEACON + WITH_TROUBLE)
    (box.folder / "lamp.py").write_text("raise KeyError('bulb')")
    box.start()
    (worker,) = (w for s in box.status()["services"] for w in s["workers"])
    errors = box.journal(UNIT, "--priority=err")
    lines = box.journal(UNIT)  # the lamp is tried again meanwhile
    assert (6, f"beacon/0: ready, pid {worker['pid']}, generation 1") in lines
    assert (4, "beacon/0: low on oil") in lines
    assert errors == [line for line in lines if line[0] <= 3][: len(errors)]
    failed = [text for _, text in errors if text.startswith("lamp: ")]
    assert failed[0] == "lamp: generation 1 failed to import: Traceback (most recent call last):"
    assert "lamp: KeyError: 'bulb'" in failed
    assert [text for _, text in errors if text.startswith("beacon/0: ")] == [
        "beacon/0: broken",
        "beacon/0: Traceback (most recent call last):",
        *[text for _, text in errors if text.startswith("beacon/0:   ")],
        "beacon/0: ZeroDivisionError: division by zero",
    ]


def test_the_journal_has_json_by_its_priority(box: Box) -> None:
    box.begin({"beacon": box.beacon()}, "StandardError=journal")
    box.configure_log(format="json", level="warning")
    box.write(BEACON + WITH_TROUBLE)
    box.start()
    objects = [(priority, json.loads(text)) for priority, text in box.journal(UNIT)]
    assert [(priority, one["level"], one["text"].splitlines()[0]) for priority, one in objects] == [
        (4, "warning", "low on oil"),
        (3, "error", "broken"),
    ]
