"""TERM and INT drain, a second one and QUIT do not wait, and what heeds nothing is killed in time."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import APP, COMMAND, Installed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_TIMEOUT = 30.0  # seconds, the default
STUBBORN = """
import forkd, signal, threading

class Stubborn(forkd.Server):
    def stop(self, graceful=True):
        open("stopping", "w").close()
        while True:
            pass
"""

UNTIL_RELEASED = """
import os, time

def application(environ, start_response):
    while not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"released"]
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished(forkd: Installed, concurrency: str, signum: int) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    forkd.start()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(forkd.get("/held")))
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="a request in flight")
    forkd.signal(signum)
    until(lambda: len(forkd.service()["workers"]) == 1, what="only the worker with the request left")
    (forkd.folder / "go").touch()
    assert forkd.wait() == 0
    thread.join()
    assert answers[0].startswith("one ")
    assert forkd.left() == []


def _is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_who_comes_while_it_drains_is_refused(forkd: Installed, concurrency: str) -> None:
    release = forkd.folder / "release"
    forkd.write("app.py", UNTIL_RELEASED)
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency, environment={"RELEASE": str(release)})})
    forkd.start()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(forkd.get("/")))
    thread.start()
    until(lambda: sum(w["in_flight"] for w in forkd.service()["workers"]) == 1, what="a request in flight")
    assert forkd.run("stop", "web", "--no-wait").returncode == 0
    until(lambda: _is_refused(forkd.port), what="the port to be closed")
    assert forkd.service()["state"] == "stopping"
    with subprocess.Popen([COMMAND, "restart", "web", "--runtime-dir", forkd.runtime_dir]) as restart:
        release.touch()
        thread.join()
        assert restart.wait(30) == 0
    assert answers == ["released"]
    assert forkd.get("/") == "released"


def _is_cut_off(forkd: Installed) -> None:
    with pytest.raises(ConnectionError):
        forkd.get("/held", timeout=60)


def test_quit_stops_at_once(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    thread = threading.Thread(target=_is_cut_off, args=[forkd])
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="a request in flight")
    started = time.monotonic()
    forkd.signal(signal.SIGQUIT)
    assert forkd.wait() == 0
    assert time.monotonic() - started < STOP_TIMEOUT / 2
    thread.join()


def test_a_second_term_stops_at_once(forkd: Installed) -> None:
    forkd.write("stubborn.py", STUBBORN)
    forkd.configure({"stubborn": {"server": "stubborn:Stubborn", "kill_timeout": 0.5}})
    forkd.start()
    forkd.signal(signal.SIGTERM)
    until((forkd.folder / "stopping").exists, what="the drain")
    started = time.monotonic()
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert time.monotonic() - started < STOP_TIMEOUT / 2
    assert forkd.left() == []


def test_a_worker_that_does_not_stop_dumps_its_stacks_and_is_killed(forkd: Installed) -> None:
    forkd.write("stubborn.py", STUBBORN)
    forkd.configure({"stubborn": {"server": "stubborn:Stubborn", "stop_timeout": 0.5, "kill_timeout": 0.5}})
    forkd.start()
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert "stubborn.py" in forkd.log.read_text()
    assert forkd.left() == []


def test_a_worker_whose_hub_is_blocked_is_killed_in_time(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=0.5, kill_timeout=0.5, concurrency=concurrency)})
    forkd.start()
    with _spinning(forkd):
        forkd.signal(signal.SIGTERM)
        assert forkd.wait() == 0
        assert forkd.left() == []


def test_a_stuck_worker_does_not_make_the_launcher_deaf(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=600, kill_timeout=0.5, concurrency=concurrency)})
    (stuck,) = forkd.start().workers()
    with _spinning(forkd):
        forkd.signal(signal.SIGHUP)
        until(lambda: forkd.workers() not in ([], [stuck]), what="a worker of the new code")
        forkd.signal(signal.SIGHUP)
        assert forkd.status()["forkd"]["state"] == "reloading"
        assert forkd.get().startswith("one ")
        forkd.signal(signal.SIGTERM)
        until(lambda: forkd.status()["forkd"]["state"] == "stopping", what="the stop under way")
        forkd.signal(signal.SIGINT)
        assert forkd.wait() == 0
        assert forkd.left() == []


@contextlib.contextmanager
def _spinning(forkd: Installed) -> Iterator[None]:
    """Have a worker in an endless loop while the block runs."""

    def ask() -> None:
        with contextlib.suppress(OSError):
            forkd.get("/spin", timeout=60)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="the loop under way")
    yield
    thread.join()


def test_stop_command_waits_until_all_is_down(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    done = forkd.run("stop")
    assert done.returncode == 0, done.stderr
    assert forkd.wait() == 0
    assert forkd.left() == []
    assert forkd.run("status").returncode == 3
    assert not (forkd.runtime_dir / "forkd.sock").exists()


def test_a_stopped_service_frees_its_port_and_starts_again(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(), "ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
    forkd.start()
    assert forkd.run("stop", "web").returncode == 0
    assert forkd.service()["state"] == "stopped"
    with pytest.raises(ConnectionRefusedError):
        forkd.get()
    forkd.write("app.py", APP.replace('"one"', '"two"'))
    forkd.configure({"web": forkd.web(workers=2)})
    assert forkd.run("reload").returncode == 0
    assert forkd.service()["state"] == "stopped"
    assert forkd.run("restart", "web").returncode == 0
    assert forkd.get().startswith("two")
    assert len(forkd.workers()) == 2


def test_a_launcher_that_was_told_so_ends_with_its_first_service_that_fails_for_good(forkd: Installed) -> None:
    forkd.write("ticker.py", "raise KeyError('DSN')\n")
    forkd.configure(
        {
            "web": forkd.web(),
            "ticker": {"server": "ticker:Ticker", "restart": {"max_restarts": 1, "window": 60, "delay": "10ms"}},
        }
    )
    forkd.start("--exit-on-failed", ready=False)
    assert forkd.wait() == 70
    assert "stopped, since a service failed for good" in forkd.log.read_text()
    assert not forkd.left()


def test_a_launcher_that_was_not_goes_on_without_it(forkd: Installed) -> None:
    forkd.write("ticker.py", "raise KeyError('DSN')\n")
    forkd.configure(
        {
            "web": forkd.web(),
            "ticker": {"server": "ticker:Ticker", "restart": {"max_restarts": 1, "window": 60, "delay": "10ms"}},
        }
    )
    forkd.start(ready=False)
    until(lambda: forkd.service("ticker").get("state") == "failed", what="the service's end")
    until(forkd.workers, what="the other service")
    assert forkd.get().startswith("one ")
