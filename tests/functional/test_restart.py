"""What dies is replaced, by backoff, and the reason of every end is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
from functools import partial

import pytest

from tests.functional.installed import TICKER, Installed, alive
from tests.waiting import until


def test_a_killed_worker_is_replaced_and_says_how_it_ended(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    victim = forkd.start().workers()[0]
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        ready = forkd.workers()
        return len(ready) == 2 and victim not in ready

    until(replaced, what="a replacement")
    last = next(w["last_exit"] for w in forkd.service()["workers"] if w["last_exit"])
    assert last["signal"] == "SIGKILL"
    assert last["code"] is None
    assert last["reason"] == "killed by operator or kernel"
    told = json.loads(forkd.run("status", "--json").stdout)["services"][0]["workers"]
    assert [w["last_exit"]["at"][-1] for w in told if w["last_exit"]] == ["Z"]


def test_a_worker_that_exits_says_its_code(forkd: Installed) -> None:
    forkd.write("app.py", "import os, threading\ndef application(environ, start_response):\n    os._exit(7)\n")
    forkd.configure({"web": forkd.web()})
    forkd.start()
    pid = forkd.workers()[0]
    with pytest.raises(http.client.RemoteDisconnected):
        forkd.get()
    until(lambda: forkd.workers() not in ([], [pid]), what="a replacement")
    assert forkd.service()["workers"][0]["last_exit"]["code"] == 7


def newcomers(forkd: Installed, known: list[int]) -> list[int]:
    return [pid for pid in forkd.workers() if pid not in known]


def test_the_last_ten_ends_of_a_slot_are_shown_where_nobody_is_left_in_it(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(restart={"policy": "on-failure", "healthy_after": 0, "delay": 0})})
    workers = forkd.start().workers()
    for _ in range(11):
        os.kill(workers[-1], signal.SIGKILL)
        workers += until(partial(newcomers, forkd, workers), what="a replacement")
    os.kill(workers[-1], signal.SIGTERM)
    until(lambda: forkd.service()["state"] == "stopped", what="its end")
    (slot,) = json.loads(forkd.run("status", "web", "--json").stdout)["services"][0]["slots"]
    assert [end["signal"] for end in slot["exits"]] == ["SIGKILL"] * 9 + [None]
    assert slot["exits"][-1]["reason"] == "drained after a signal from outside"
    assert "drained after a signal from outside" in forkd.run("status", "web").stdout
    assert forkd.run("restart", "web").returncode == 0
    assert len(forkd.workers()) == 1


def test_who_is_never_to_be_replaced_is_not(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2, restart={"policy": "never"})})
    victim, other = forkd.start().workers()
    os.kill(victim, signal.SIGKILL)
    until(lambda: forkd.service()["wanted"] == 1, what="its end")
    assert forkd.workers() == [other]


def test_a_start_that_fails_says_why_in_the_status(forkd: Installed) -> None:
    forkd.write("app.py", "import os\nDSN = os.environ['DSN']\n")
    forkd.configure({"web": forkd.web()})
    forkd.start(ready=False)
    error = until(lambda: forkd.service().get("error"), what="the error")
    assert "KeyError: 'DSN'" in error
    assert forkd.service()["state"] == "backoff"
    assert forkd.run("status").returncode == 4
    assert "app.py" in forkd.log.read_text()


def test_a_server_whose_constructor_fails_says_why(forkd: Installed) -> None:
    forkd.write("ticker.py", TICKER.replace("self.path = path", "self.path = {}[path]"))
    forkd.configure({"ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
    forkd.start(ready=False)
    error = until(lambda: forkd.service("ticker").get("error"), what="the error")
    assert error == "worker 0 failed to start: KeyError: 'ticks'"


def test_a_start_that_fails_again_and_again_is_no_fork_bomb(forkd: Installed, concurrency: str) -> None:
    forkd.write(
        "failing.py",
        """
import time, forkd

class Failing(forkd.Server):
    def start(self):
        with open("starts", "a") as file:
            file.write(f"{time.monotonic()}\\n")
        raise RuntimeError("no")
""",
    )
    starts = forkd.folder / "starts"
    forkd.configure({"failing": {"server": "failing:Failing", "concurrency": concurrency, "restart": {"delay": 0.2}}})
    forkd.start(ready=False)
    until(lambda: starts.exists() and starts.read_text().count("\n") >= 4, what="four starts")
    first, second, third, fourth, *_ = map(float, starts.read_text().split())
    assert (second - first >= 0.2, third - second >= 0.4, fourth - third >= 0.8) == (True, True, True)
    assert forkd.service("failing")["error"] == "worker 0 failed to start: RuntimeError: no"
    assert len(forkd.titles()) <= 3


def test_a_start_that_takes_too_long_dumps_its_stacks_and_says_so(forkd: Installed) -> None:
    forkd.write(
        "hanging.py",
        """
import signal, forkd

class Hanging(forkd.Server):
    def start(self):
        self.a_place_to_be_found()

    def a_place_to_be_found(self):
        signal.pause()
""",
    )
    forkd.configure({"hanging": {"server": "hanging:Hanging", "concurrency": "threads", "start_timeout": 2}})
    forkd.start(ready=False)
    until(lambda: "a_place_to_be_found" in forkd.log.read_text(), 30.0, "the stacks")
    error = until(lambda: forkd.service("hanging")["error"], what="the error")
    assert error == "worker 0 failed to start: not ready within 2 s"


def test_a_connection_made_while_no_worker_lives_waits_for_the_next_one(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(restart={"delay": 0.5})})
    (victim,) = forkd.start().workers()
    os.kill(victim, signal.SIGKILL)
    until(lambda: not alive(victim), what="its death")
    assert forkd.get() not in ("", f"one {victim}")


def test_a_crash_loop_does_not_delay_another_service(forkd: Installed) -> None:
    forkd.write("broken.py", "raise RuntimeError('no')\n")
    broken = {"server": "broken:X", "restart": {"delay": 600, "max_delay": 600}}
    forkd.configure({"broken": broken, "web": forkd.web(restart={"healthy_after": 0})})
    forkd.start(ready=False)
    until(forkd.workers, what="the healthy service")
    until(lambda: forkd.service("broken").get("state") == "backoff", what="the broken one in backoff")
    for _ in range(5):
        victim = forkd.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(partial(_others_than, forkd, victim), what="a replacement at once")


def test_a_killed_zygote_leaves_its_workers_and_comes_back(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2, restart={"healthy_after": 0})})
    service = forkd.start().service()
    before = sorted(w["pid"] for w in service["workers"])
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until(lambda: forkd.service()["zygote_pid"] not in (None, service["zygote_pid"]), what="a new zygote")
    forkd.until_running()
    assert sorted(forkd.workers()) == before
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(forkd.workers()) - {before[0]}) == 2, what="a replacement by the new zygote")


def _others_than(forkd: Installed, victim: int) -> bool:
    return forkd.workers() not in ([], [victim])


def _full_strength_without(forkd: Installed, victim: int) -> bool:
    services = forkd.until_running()["services"]
    return victim not in {s["zygote_pid"] for s in services} | {w["pid"] for s in services for w in s["workers"]}


def _resources(pid: int) -> tuple[int, int]:
    rss = next(
        line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return len(os.listdir(f"/proc/{pid}/fd")), int(rss.split()[1])


def _zombies_of(pid: int) -> list[str]:
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    stats = []
    for child in children:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # reaped by now
            stats.append(pathlib.Path(f"/proc/{child}/stat").read_text())
    return [stat for stat in stats if stat.rpartition(")")[2].split()[0] == "Z"]


def test_two_hundred_random_kills_leave_the_right_number_and_no_trace(forkd: Installed) -> None:
    adder = {"server": "adder:Adder", "topic": "adder", "workers": 2, "concurrency": "threads"}
    web = forkd.web(workers=3, concurrency="eventlet")
    forkd.configure({"web": web, "adder": adder}, defaults={"restart": {"healthy_after": 0}})
    forkd.start()
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    fds, rss = _resources(forkd.pid)
    for _ in range(200):
        status = forkd.status()
        victims = [w["pid"] for s in status["services"] for w in s["workers"] if w["phase"] == "ready"]
        victims += [s["zygote_pid"] for s in status["services"] if s["zygote_pid"]]
        victim = dice.choice(victims)
        os.kill(victim, signal.SIGKILL)
        until(partial(_full_strength_without, forkd, victim), what=f"full strength (seed {seed})")
    until(lambda: _resources(forkd.pid)[0] <= fds, what=f"no leaked fd (seed {seed})")
    until(lambda: not _zombies_of(forkd.pid), what=f"no zombie (seed {seed})")
    assert _resources(forkd.pid)[1] <= rss + 1024
    until(lambda: len(forkd.titles()) == 1 + 2 + 5, what="just the processes there should be")
