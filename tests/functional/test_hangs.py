"""Workers that hang: they are replaced at once, show where they were, and end however stuck they are."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import alive
from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

STUCK = """
import ctypes, os, sys

if "eventlet" in sys.modules:
    import eventlet.patcher
    time = eventlet.patcher.original("time")
else:
    import time

def sleep():
    time.sleep(1000)

def spin():
    while True:
        pass

def hold():
    lock = ctypes.PyDLL(None).pthread_mutex_lock  # unlike CDLL it keeps the interpreter's lock
    mutex = ctypes.create_string_buffer(64)
    lock(mutex)
    lock(mutex)

def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    if name:
        globals()[name]()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def ask(forkd: Installed, path: str) -> threading.Thread:
    """Send a request in a thread of its own; what becomes of it is nobody's business."""

    def get() -> None:
        try:
            forkd.get(path, timeout=60)
        except OSError:
            return  # it is cut with its worker

    thread = threading.Thread(target=get)
    thread.start()
    return thread


def until_replaced(forkd: Installed, hung: int) -> None:
    until(lambda: forkd.workers() not in ([], [hung]), 30.0, "a replacement")


def reason(forkd: Installed) -> str:
    """Wait for the end of the worker before; return why it was."""

    def reasons() -> list[str]:
        return [worker["last_exit"]["reason"] for worker in forkd.service()["workers"] if worker["last_exit"]]

    return until(reasons, 30.0, "its end in the status")[0]


@pytest.mark.parametrize("where", ["sleep", "spin", "hold"])
def test_a_blocked_hub_is_replaced_and_shows_where_it_was(forkd: Installed, where: str) -> None:
    forkd.write("app.py", STUCK)
    forkd.configure({"web": forkd.web(hang_timeout=0.4, kill_timeout=1)})
    (hung,) = forkd.start().workers()
    client = ask(forkd, f"/{where}")
    until_replaced(forkd, hung)
    assert alive(hung)  # its successor did not wait for it
    assert int(forkd.get()) in forkd.workers()
    assert reason(forkd).startswith("hung: no heartbeat for 0.4 s")
    client.join(30)
    assert f" in {where}" in forkd.log.read_text()
    assert not alive(hung)


def test_native_threads_hang_when_one_holds_the_interpreter(forkd: Installed) -> None:
    forkd.write("app.py", STUCK)
    forkd.configure({"web": forkd.web(hang_timeout=0.4, kill_timeout=0.3, concurrency="threads")})
    (worker,) = forkd.start().workers()
    busy = ask(forkd, "/spin")  # not this one
    until(lambda: forkd.in_flight() == 1, what="the request under way")
    client = ask(forkd, "/hold")
    until_replaced(forkd, worker)
    assert reason(forkd).startswith("hung: no heartbeat for 0.4 s")
    for thread in (busy, client):
        thread.join(30)
    assert " in hold" in forkd.log.read_text()


def test_a_worker_that_drains_for_long_does_not_hang(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(hang_timeout=0.2, concurrency=concurrency)})
    (worker,) = forkd.start().workers()
    client = ask(forkd, "/held")
    until(lambda: forkd.in_flight() == 1, what="the request under way")
    os.kill(worker, signal.SIGTERM)
    until_replaced(forkd, worker)
    until(lambda: any(w["phase"] == "ready" and w["uptime"] > 2 for w in forkd.service()["workers"]), what="some time")
    assert alive(worker)
    (forkd.folder / "go").touch()
    client.join(30)
    assert reason(forkd) == "drained after a signal from outside"


def test_a_drain_that_does_not_end_shows_its_stacks(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", STUCK)
    forkd.configure({"web": forkd.web(concurrency=concurrency, stop_timeout=0.2)})
    forkd.start()
    client = ask(forkd, "/spin")
    until(lambda: forkd.in_flight() == 1, what="the request under way")
    assert forkd.run("restart", "web").returncode == 0
    assert reason(forkd) == "stopped by the launcher, died of SIGABRT"
    client.join(30)
    assert " in spin" in forkd.log.read_text()


def test_stacks_are_shown_of_who_is_stuck(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", STUCK)
    forkd.configure({"web": forkd.web(concurrency=concurrency, stop_timeout=0, kill_timeout=0)})
    forkd.start()
    client = ask(forkd, "/hold")
    until(lambda: forkd.in_flight() == 1, what="the request under way")
    shown = forkd.run("stacks", "web").stdout
    assert " in hold" in shown
    assert "Green thread" not in shown
    assert forkd.run("restart", "web").returncode == 0
    client.join(30)
