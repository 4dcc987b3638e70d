"""What `forkd status` makes of a picture: /proc's part, the table, the verdict."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest

from forkd.errors import ForkdError
from forkd.ops import proc, status, table
from tests.waiting import until

WORKER: dict[str, Any] = {
    "id": 7,
    "slot": 0,
    "pid": None,
    "phase": "starting",
    "generation": 2,
    "uptime": 9.1,
    "restarts": 3,
    "heartbeat_age": 0.42,
    "requests": 1041,
    "in_flight": 2,
    "errors": 1,
    "last_exit": {
        "at": "2026-01-01T00:00:00.000Z",
        "code": None,
        "signal": "SIGKILL",
        "reason": "killed by operator or kernel",
    },
    "tasks": [],
}
NIGHTLY = {"name": "nightly", "ok": 3, "failed": 1, "late": 1, "skipped": 0}
SERVICE = {
    "name": "shop",
    "state": "running",
    "generation": 2,
    "wanted": 1,
    "ready": 1,
    "restarts": 3,
    "listen": ["0.0.0.0:8080", "unix:/run/shop.sock"],
    "zygote_pid": 11,
    "error": None,
    "workers": [WORKER],
    "totals": {
        "requests": 2082,
        "errors": 1,
        "tasks": [{**NIGHTLY, "lateness": 0.02, "last_run": "2026-01-01T00:00:00.000Z"}],
    },
}
PICTURE: dict[str, Any] = {
    "forkd": {
        "version": "0.1.0",
        "pid": 1,
        "state": "running",
        "uptime": 12.3,
        "config": "/etc/forkd/services.yaml",
        "generation": 2,
        "last_reload": {"at": "2026-01-01T00:00:00.000Z", "ok": True, "error": None},
    },
    "services": [SERVICE, {**SERVICE, "name": "billing", "listen": [], "workers": []}],
}


@pytest.fixture
def picture():
    return copy.deepcopy(PICTURE)


@pytest.fixture
def child():
    """A child that holds 30 MB and one more descriptor than its three."""
    code = "import sys, os; data = b'x' * 30_000_000; os.pipe(); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def test_what_proc_says_of_a_child(child):
    used = proc.usage(child.pid, os.getpid())
    assert used.rss is not None
    assert used.rss > 30_000_000
    assert used.pss is not None
    assert 30_000_000 < used.pss <= used.rss
    assert used.cpu_seconds is not None
    assert used.cpu_seconds >= 0
    assert used.fds == 5
    assert used.threads == 1


def test_a_process_that_is_not_the_launchers_child_is_not_told_of(child):
    """A pid may have been given to somebody else since the launcher spoke."""
    assert proc.usage(child.pid, os.getpid() + 1) == proc.Usage()


def test_a_dead_process_uses_nothing(child):
    child.kill()
    until(lambda: proc.usage(child.pid, os.getpid()).pss is None, what="the end of the child")
    child.wait()
    assert proc.usage(child.pid, os.getpid()) == proc.Usage()


def test_what_proc_denies_is_null(child, monkeypatch):
    def denied(path, *_args, **_kwargs):
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", denied)
    read = proc._read
    monkeypatch.setattr(proc, "_read", lambda path: b"" if path.endswith("smaps_rollup") else read(path))
    used = proc.usage(child.pid, os.getpid())
    assert (used.pss, used.fds) == (None, None)
    assert used.rss


def test_a_worker_is_completed_in_the_order_of_the_contract(picture, child):
    picture["forkd"]["pid"] = os.getpid()
    picture["services"][0]["workers"][0]["pid"] = child.pid
    worker = status.complete(picture, "shop")["services"][0]["workers"][0]
    assert list(worker) == [
        *("id", "slot", "pid", "phase", "generation", "uptime", "restarts", "heartbeat_age", "requests", "in_flight"),
        *("errors", "rss", "pss", "cpu", "cpu_seconds", "fds", "threads", "last_exit", "tasks"),
    ]
    assert worker["cpu"] == pytest.approx(100 * worker["cpu_seconds"] / 9.1, abs=0.1)


def test_of_many_workers_the_proportional_memory_is_told_of_a_service_that_is_named(picture, child, monkeypatch):
    monkeypatch.setattr(status, "_MOST_SHARES", 0)
    picture["forkd"]["pid"] = os.getpid()
    (worker,) = picture["services"][0]["workers"]
    worker["pid"] = child.pid

    def told(service):
        (copied,) = status.complete(copy.deepcopy(picture), service)["services"][0]["workers"]
        return copied

    assert told(None)["rss"]
    assert told(None)["pss"] is None
    assert told("shop")["pss"]


def test_one_service_or_all(picture):
    assert [one["name"] for one in status.complete(picture, None)["services"]] == ["shop", "billing"]
    assert [one["name"] for one in status.complete(picture, "billing")["services"]] == ["billing"]
    with pytest.raises(ForkdError, match="'shopp'; there are: shop, billing"):
        status.complete(picture, "shopp")


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"state": "reloading", "ready": 2}, True),
        ({"state": "stopped", "wanted": 0, "ready": 0}, True),
        ({"state": "running", "ready": 0}, False),
        ({"state": "starting", "ready": 0}, False),
        ({"state": "degraded"}, False),
        ({"state": "backoff", "ready": 0}, False),
        ({"state": "failed", "ready": 0}, False),
        ({"state": "stopping", "wanted": 0}, False),
    ],
)
def test_what_is_as_wanted(picture, change, good):
    picture["services"][1].update(change)
    assert status.as_wanted(picture) is good


def test_the_table(picture):
    picture["services"][1].update(state="backoff", ready=0, error="import failed: \x1b[31mKeyError\n'DSN'")
    shown = list(status.lines(status.complete(picture, None), table.plain))
    assert shown == [
        "forkd 0.1.0, pid 1: running for 12s, generation 2, /etc/forkd/services.yaml",
        "last reload at 2026-01-01T00:00:00.000Z: done",
        "",
        "SERVICE  STATE    READY  GEN  RESTARTS  LISTEN",
        "shop     running    1/1    2         3  0.0.0.0:8080 unix:/run/shop.sock",
        "billing  backoff    0/1    2         3  -",
        r"billing: import failed: \x1b[31mKeyError 'DSN'",
        "",
        "WORKER  PID  PHASE     GEN  UPTIME  RESTARTS  BEAT  REQUESTS  ACTIVE  ERRORS  RSS  PSS  CPU  FDS  THREADS  LAST EXIT",
        (
            "shop/0    -  starting    2    9.1s         3  0.4s      1041       2       1    -    -    -    -        -  "
            "2026-01-01T00:00:00.000Z killed by operator or kernel"
        ),
    ]


def test_a_service_that_is_asked_for_is_shown_with_tasks_health_and_exits(picture):
    shop = picture["services"][0]
    shop["totals"]["tasks"].append({**NIGHTLY, "name": "ne\x1bver", "lateness": None, "last_run": None})
    shop["workers"][0]["health"] = {"ok": False, "failures": 2, "text": "500 Internal Server Error"}
    ends = [{"at": "2026-01-01T00:00:00.000Z", "code": code, "signal": None, "reason": "why"} for code in (3, None)]
    shop["slots"] = [{"slot": 0, "restarts": 2, "exits": ends}]
    completed = status.complete(picture, "shop")
    assert list(status.lines(completed, table.plain))[-11:] == [
        "",
        "TASK       OK  FAILED  LATE  SKIPPED  LATENESS  LAST RUN",
        "nightly     3       1     1        0      0.0s  2026-01-01T00:00:00.000Z",
        "ne\\x1bver   3       1     1        0         -  -",
        "",
        "WORKER  HEALTH       ANSWER",
        "shop/0  failures: 2  500 Internal Server Error",
        "",
        "SLOT    END  EXITS",
        "shop/0  3    2026-01-01T00:00:00.000Z why",
        "shop/0  -    2026-01-01T00:00:00.000Z why",
    ]


def test_a_failed_reload_says_why(picture):
    picture["forkd"]["last_reload"].update(ok=False, error="a.yaml:1:1: one\na.yaml:2:1: two")
    shown = list(status.lines(status.complete(picture, None), table.plain))
    assert shown[1:4] == [
        "last reload at 2026-01-01T00:00:00.000Z: failed",
        "  a.yaml:1:1: one",
        "  a.yaml:2:1: two",
    ]


def test_colour_changes_no_width(picture):
    completed = status.complete(picture, None)
    plain, coloured = list(status.lines(completed, table.plain)), list(status.lines(completed, table.coloured))
    assert any("\033[32mrunning\033[0m" in line for line in coloured)
    bare = [line.replace("\033[0m", "") for line in coloured]
    for code in ("31", "32", "33"):
        bare = [line.replace(f"\033[{code}m", "") for line in bare]
    assert bare == plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0.0s"), (9.94, "9.9s"), (12.9, "12s"), (185, "3m 5s"), (7620, "2h 7m"), (442800, "5d 3h")],
)
def test_durations(seconds, text):
    assert table.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0K"), (524288, "512K"), (31457280, "30.0M"), (1 << 30, "1.0G")]
)
def test_sizes(count, text):
    assert table.size(count) == text
