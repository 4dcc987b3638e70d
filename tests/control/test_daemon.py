"""What the launcher process does around the core's loop, with a kernel that only plays its part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forkd import daemon, log
from forkd.control.rundir import RuntimeDir
from forkd.core.commands import ReadConfig
from forkd.core.events import ConfigRead, ConfigRefused, Reload, Stop
from forkd.core.spec import Config, ServiceSpec
from forkd.core.state import News
from forkd.errors import ConfigError
from forkd.scoreboard import Counters
from forkd.tallies import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Config("/nowhere", services=(ServiceSpec("shop", "shop:Shop"),))


class Kernel:
    """Plays a script: each wait returns the next events, and records until when it would have slept."""

    def __init__(self, *script: list[Any]) -> None:
        self.script = list(script)
        self.performed: list[Any] = []
        self.deadlines: list[float | None] = []
        self.watched: list[Any] = []
        self.closed = False

    def now(self) -> float:
        return 100.0

    def perform(self, command: Any) -> list[Any]:
        self.performed.append(command)
        return []

    def wait(self, deadline: float | None) -> list[Any]:
        self.deadlines.append(deadline)
        return self.script.pop(0)

    def watch(self, source: Any, on_ready: Any) -> None:
        self.watched.append(source)

    def unwatch(self, source: Any) -> None:
        self.watched.remove(source)

    def describe(self, id: int) -> Counters | None:
        return Counters(99.0, 10, 2, 1, 0.5) if id == 1 else None

    def totals(self, service: str) -> Counters:
        return Counters(99.0, 30, 2, 1, 0.5, (Tally("task", service, (3, 1, 0, 2, 10**18, 5 * 10**8)),))

    def close(self) -> None:
        self.closed = True


def test_the_first_configuration_is_read_like_every_other():
    kernel: Any = Kernel([], [ConfigRead(CONFIG)])
    assert daemon._read(kernel) == (CONFIG, [])
    assert kernel.performed == [ReadConfig()]
    assert kernel.deadlines == [None, None]


def test_what_is_asked_for_while_it_is_read_is_not_forgotten():
    kernel: Any = Kernel([Reload()], [ConfigRead(CONFIG), Reload()])
    assert daemon._read(kernel) == (CONFIG, [Reload(), Reload()])


def test_a_stop_while_it_is_read_is_a_stop():
    kernel: Any = Kernel([Reload()], [Stop()])
    assert daemon._read(kernel) == (None, [])


def test_a_first_configuration_that_is_refused_is_the_end():
    kernel: Any = Kernel([ConfigRefused(("a.yaml:1:1: one", "a.yaml:2:1: two"))])
    with pytest.raises(ConfigError) as caught:
        daemon._read(kernel)
    assert caught.value.problems == ["a.yaml:1:1: one", "a.yaml:2:1: two"]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel([], [], [])


@pytest.fixture
def launcher(short_tmp, kernel, monkeypatch) -> Iterator[daemon.Daemon]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_tmp / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    for name in (log.LEVEL_VARIABLE, log.FORMAT_VARIABLE):  # which it sets for its children: here for this test alone
        monkeypatch.setenv(name, "")
    launcher = daemon.Daemon("/etc/s.yaml", CONFIG, kernel, RuntimeDir(str(short_tmp / "run")))
    yield launcher
    launcher.close()
    assert kernel.closed
    assert kernel.watched == []
    assert not (short_tmp / "run" / "forkd.sock").exists()


def test_signs_of_life_shorten_the_sleep_and_nothing_lengthens_it(launcher, kernel):
    launcher.report([])
    for deadline in (None, 101.0, 500.0):
        launcher.wait(deadline)
    assert kernel.deadlines == [102.0, 101.0, 102.0]


def test_status_has_the_launchers_part_and_the_counters(launcher, kernel):
    launcher._supervisor.plan(100.0)
    picture = launcher.status()
    assert list(picture["forkd"]) == ["version", "pid", "state", "uptime", "config", "generation", "last_reload"]
    assert picture["forkd"]["config"] == "/etc/s.yaml"
    task = {"name": "shop", "ok": 3, "failed": 1, "late": 0, "skipped": 2}
    assert picture["services"][0]["totals"] == {
        "requests": 30,
        "errors": 1,
        "tasks": [{**task, "lateness": 0.5, "last_run": "2001-09-09T01:46:40.000Z"}],
    }
    worker = {"id": 1, "uptime": 1.23456, "last_exit": {"at": 40.0, "reason": "x"}}
    known = launcher._described(dict(worker), 100.0)
    assert (known["heartbeat_age"], known["requests"], known["in_flight"], known["errors"]) == (1.0, 10, 2, 1)
    assert known["last_exit"]["at"].endswith("Z")
    unknown = launcher._described({**worker, "id": 2, "last_exit": None}, 100.0)
    assert unknown == {
        "id": 2,
        "uptime": 1.235,
        "heartbeat_age": None,
        "requests": None,
        "in_flight": None,
        "errors": None,
        "tasks": [],
        "last_exit": None,
    }


def test_the_log_level_follows_the_configuration(launcher, kernel, capfd):
    kernel.script[:] = [[ConfigRead(CONFIG._replace(log_level="debug"))]]
    launcher.report([News("spawned", "shop", 0, 1, 12)])
    assert capfd.readouterr().err == ""
    launcher.wait(None)
    launcher.report([News("spawned", "shop", 0, 1, 12)])
    assert capfd.readouterr().err.endswith("DEBUG shop/0: spawned, pid 12\n")


def test_the_summary_names_what_is_not_well_and_is_bounded():
    services = [
        {"name": "shop", "state": "running", "ready": 4, "error": None},
        {"name": "lamp", "state": "backoff", "ready": 0, "error": "KeyError: 'bulb'"},
        {"name": "mail", "state": "starting", "ready": 0, "error": None},
    ]
    picture = {"forkd": {"state": "running"}, "services": services}
    assert daemon._summary(picture) == (
        "running: 1 of 3 services as wanted, 4 workers ready; lamp backoff (KeyError: 'bulb'); mail starting"
    )
    services[1]["error"] = "x" * 10_000
    assert len(daemon._summary(picture)) == 500
