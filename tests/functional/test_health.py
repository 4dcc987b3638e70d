"""Healthchecks: a worker that does not answer well is replaced, its successor first, and nobody else notices."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

# Each worker fails, or hangs, as long as a file says so of its pid.
APP = """
import os, time

def application(environ, start_response):
    pid = os.getpid()
    if environ["PATH_INFO"] != "/":
        while os.path.exists(f"hang-{pid}"):
            time.sleep(0.01)
        if os.path.exists(f"fail-{pid}") or environ["PATH_INFO"] != "/healthz":
            start_response("500 Internal Server Error", [])
            return [b"not well"]
    start_response("200 OK", [])
    return [str(pid).encode()]
"""


def configure(forkd: Installed, *, workers: int = 2, **keys: Any) -> None:
    check = {"http": "/healthz", "interval": "100ms", "timeout": "500ms", "failures": 2, **keys.pop("healthcheck", {})}
    forkd.configure({"web": forkd.web(workers=workers, healthcheck=check, **keys)})


def start(forkd: Installed, **keys: Any) -> list[int]:
    """Start, and wait until each worker was found to be well; return their pids."""
    forkd.write("app.py", APP)
    configure(forkd, **keys)
    forkd.start()
    until(lambda: all(one["health"] for one in forkd.service()["workers"]), 20.0, "an answer of each worker")
    return forkd.workers()


def replaced(forkd: Installed, pid: int, others: set[int]) -> list[int]:
    """Wait until a worker is replaced, and the others alone live on; return the pids."""

    def done() -> bool:
        pids = [worker["pid"] for worker in forkd.service()["workers"]]
        return pid not in pids and len(forkd.workers()) == len(pids) == len(others) + 1

    until(done, 30.0, "the successor alone")
    assert others < set(forkd.workers())
    return forkd.workers()


def test_a_worker_that_answers_500_is_replaced(forkd: Installed, concurrency: str) -> None:
    sick, well = start(forkd, concurrency=concurrency)
    told = json.loads(forkd.run("status", "web", "--json").stdout)["services"][0]
    assert [worker["health"] for worker in told["workers"]] == [{"ok": True, "failures": 0, "text": ""}] * 2
    forkd.write(f"fail-{sick}", "")
    replaced(forkd, sick, {well})
    log = forkd.log.read_text()
    ready = log.index("web/0: ready", log.index("500 Internal Server Error"))
    assert ready < log.index(f"web/0: pid {sick} exited")
    ended = forkd.service()["workers"][0]["last_exit"]
    assert "500 Internal Server Error" in ended["reason"]


def test_a_worker_that_does_not_answer_is_replaced(forkd: Installed, concurrency: str) -> None:
    sick, well = start(forkd, concurrency=concurrency)
    forkd.write(f"hang-{sick}", "")
    until(lambda: "no answer within 0.5 s" in forkd.log.read_text(), 20.0, "the reason")
    (forkd.folder / f"hang-{sick}").unlink()  # so that it can drain
    replaced(forkd, sick, {well})


def test_a_worker_that_recovers_in_time_stays(forkd: Installed) -> None:
    (pid,) = start(forkd, workers=1, healthcheck={"failures": 100_000, "interval": "20ms"})
    forkd.write(f"fail-{pid}", "")
    health = until(lambda: (found := forkd.service()["workers"][0]["health"])["failures"] > 1 and found)
    assert (health["ok"], health["text"]) == (False, "500 Internal Server Error")
    (forkd.folder / f"fail-{pid}").unlink()
    until(lambda: forkd.service()["workers"][0]["health"] == {"ok": True, "failures": 0, "text": ""})
    assert forkd.workers() == [pid]


def test_checks_are_not_counted_as_requests(forkd: Installed, concurrency: str) -> None:
    start(forkd, workers=1, concurrency=concurrency)
    until(lambda: forkd.service()["workers"][0]["health"], what="a check")
    forkd.get()
    until(lambda: forkd.service()["workers"][0]["requests"], what="the request, which is counted after its answer")
    (worker,) = forkd.service()["workers"]
    assert (worker["requests"], worker["errors"]) == (1, 0)


def test_private_sockets_come_and_go_with_their_workers(forkd: Installed) -> None:
    start(forkd)
    folder = forkd.runtime_dir / "health"

    def names() -> set[str]:
        return {f"{worker['id']}.sock" for worker in forkd.service()["workers"]}

    assert set(os.listdir(folder)) == names()
    assert forkd.run("reload").returncode == 0
    until(lambda: set(os.listdir(folder)) == names() and len(names()) == 2, what="the new ones alone")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert os.listdir(folder) == []


def test_who_asks_is_a_service_like_any_other(forkd: Installed) -> None:
    sick, well = start(forkd)
    (helper,) = forkd.workers("healthcheck")
    os.kill(helper, signal.SIGKILL)
    until(lambda: forkd.workers("healthcheck") not in ([], [helper]), what="another one")
    forkd.write(f"fail-{sick}", "")
    replaced(forkd, sick, {well})


def test_who_asks_stands_still_for_a_while(forkd: Installed) -> None:
    pids = start(forkd, healthcheck={"failures": 1})
    (helper,) = forkd.workers("healthcheck")
    os.kill(helper, signal.SIGSTOP)
    before = forkd.status()["forkd"]["uptime"]
    until(lambda: forkd.status()["forkd"]["uptime"] > before + 1.5, what="more than the timeout")
    os.kill(helper, signal.SIGCONT)
    forkd.write(f"fail-{pids[0]}", "")
    replaced(forkd, pids[0], {pids[1]})  # so it was asked again, and the other one never failed


def test_a_reload_changes_how_it_is_asked(forkd: Installed) -> None:
    pids = start(forkd)
    configure(forkd, healthcheck={"http": "/deeper", "failures": 100_000})
    assert forkd.run("reload", "web").returncode == 0
    until(lambda: all((w["health"] or {}).get("failures") for w in forkd.service()["workers"]), what="failures")
    assert not set(pids) & set(forkd.workers())


def test_without_healthchecks_nobody_asks(forkd: Installed) -> None:
    start(forkd)
    forkd.configure({"web": forkd.web()})
    assert forkd.run("reload").returncode == 0
    assert [service["name"] for service in forkd.status()["services"]] == ["web"]
    assert os.listdir(forkd.runtime_dir / "health") == []
