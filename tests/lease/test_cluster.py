"""Tasks of the cluster under the installed command: one of them runs at a time, whatever happens to whom."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest

from forkd import lease
from forkd.lease.address import parse
from forkd.lease.contact import opened
from tests.functional.installed import Installed, alive
from tests.lease.backends import GUARDED, PASSWORD, Redis, await_free
from tests.lease.runs import SERVER, Log
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TTL = 1.0
SLACK = 1.0  # seconds that this machine may be late by
QUICK = {"delay": "10ms", "max_delay": "10ms"}
PAIRS = [("redis", "eventlet"), ("postgresql", "threads")]  # neither has to do with the other


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "runs")


@pytest.fixture
def hosts(short_tmp: Path) -> Iterator[list[Installed]]:
    """Yield two launchers, not yet started, that know nothing of each other."""
    found = []
    for name in ("a", "b"):
        (short_tmp / name).mkdir()
        found.append(Installed(short_tmp / name))
    yield found
    for host in found:
        host.close()


def prepare(host: Installed, url: str, log: Log, concurrency: str, **args: Any) -> None:
    """Have a launcher know of the service `web` with the task."""
    host.write("busy.py", SERVER)
    keys = {"server": "busy:Busy", "workers": 2, "concurrency": concurrency, "restart": QUICK}
    host.configure({"web": {**keys, "args": {"log": str(log.path), **args}}}, lease=url)


def record(url: str, token: int) -> dict[int, lease.Run]:
    """Return the backend's record by token, once it says how the run of this one ended; the run itself says it sooner."""

    def found() -> dict[int, lease.Run]:
        runs = {run.token: run for run in lease.runs(url, "web", "task", 1000)}
        return runs if token in runs and runs[token].outcome else {}

    return until(found)


def let_pass(seconds: float) -> None:
    since = time.monotonic()
    until(lambda: time.monotonic() > since + seconds)


@pytest.mark.parametrize(("kind", "concurrency"), PAIRS)
def test_one_at_a_time_whoever_is_killed(hosts, url, log, concurrency):
    await_free(url, "web.task")
    for host in hosts:
        prepare(host, url, log, concurrency)
        host.start()
    log.await_run(lambda run: run.ended)
    draw = random.Random(7)
    killed = []
    ends = time.monotonic() + 6
    while time.monotonic() < ends:
        run = log.await_run(lambda run: alive(run.pid) and run.pid not in killed)
        let_pass(draw.uniform(0, 0.15))
        os.kill(run.pid, signal.SIGKILL)
        killed.append(run.pid)
    after = log.await_run(lambda run: run.ended and run.pid not in killed)
    runs = log.judge()
    cut = [(one, then) for one, then in itertools.pairwise(runs) if not one.ended and one.pid in killed]
    assert cut
    taken_over = [then.begun - one.last for one, then in cut]
    assert statistics.median(taken_over) < TTL + SLACK / 3
    assert max(taken_over) < TTL + 2 * SLACK
    recorded = record(url, after.token)
    assert {run.token for run in runs} <= recorded.keys()
    assert {recorded[one.token].outcome for one, _ in cut} == {"expired"}
    assert recorded[after.token].outcome == "ok"


@pytest.mark.parametrize(("kind", "concurrency"), PAIRS)
def test_a_reload_hands_over_at_once_and_no_tick_is_doubled_or_left_out(hosts, url, log, concurrency):
    await_free(url, "web.task")
    url = url.replace("ttl=1s", "ttl=5s")  # what is not handed over is held up for so long
    for host in hosts:
        prepare(host, url, log, concurrency, beats=2)
        host.start()
    first = log.await_run(lambda run: run.ended)  # which may be late: a Redis that has just begun lets nobody run
    log.await_run(lambda run: run.ended and run.token > first.token)
    backend = opened(parse(url), 10.0)
    before = backend.look("web.task", begin=False)
    for host in (*hosts, *hosts):
        assert host.run("reload").returncode == 0
    hosts[0].run("stop", "web")
    let_pass(0.6)
    runs = log.judge()
    tokens = [run.token for run in runs]
    assert tokens == list(range(tokens[0], tokens[0] + len(tokens)))
    after = backend.look("web.task", begin=False)
    backend.close()
    ticks = (after.tick - before.tick) / 0.2
    assert ticks == pytest.approx(round(ticks), abs=1e-3), "they never drift"
    assert 0.7 * ticks < after.token - before.token <= round(ticks), "each is called for once"
    gaps = [then.begun - one.begun for one, then in itertools.pairwise(runs)]
    assert max(gaps) < 2.5
    assert statistics.median(gaps) == pytest.approx(0.2, abs=0.05)
    assert len({run.pid for run in runs}) > 2
    assert {run.outcome for run in lease.runs(url, "web", "task", len(runs))[1:]} == {"ok"}


STUCK = [
    ("redis", "eventlet", "spinning"),
    ("postgresql", "eventlet", "blocking"),
    ("redis", "threads", "clutching"),
    ("postgresql", "threads", "stopped"),
    ("redis", "eventlet", "stopped"),
]


@pytest.mark.parametrize(("kind", "concurrency", "manner"), STUCK)
def test_one_that_nobody_can_reach_ends_before_another_begins(forkd, url, log, concurrency, manner):
    await_free(url, "web.task")
    ttl = 3.0  # a twentieth of it is all the time that there is to show stacks in
    prepare(forkd, url.replace("ttl=1s", f"ttl={ttl:g}s"), log, concurrency, manner=manner)
    forkd.start()
    first = log.await_run(lambda run: True)
    stuck = int(until(lambda: log.path.with_suffix(".stuck").exists() and log.path.with_suffix(".stuck").read_text()))
    assert stuck == first.pid
    begun = until(lambda: [run for run in log.runs() if run.token > first.token][:1], 10)[0]
    log.judge()
    assert not alive(stuck)
    assert begun.begun - first.begun < ttl + SLACK
    until(lambda: f"pid {stuck} exited: " in forkd.log.read_text())
    text = forkd.log.read_text()
    if manner != "stopped":
        assert 'busy.py", line' in text, "its stacks"
    assert f"has begun, though the last one, token {first.token}, has not told of its end" in text


@pytest.mark.parametrize(
    ("kind", "concurrency", "manner"),
    [
        ("redis", "eventlet", "well"),
        ("redis", "threads", "checking"),
        ("postgresql", "threads", "stubborn"),
        ("postgresql", "eventlet", "stubborn"),
    ],
)
def test_without_the_backend_a_run_ends_in_time_and_all_goes_on_with_it(forkd, server, log, concurrency, manner):
    await_free(server.url, "web.task")
    prepare(forkd, server.url, log, concurrency, manner=manner, beats=1000)
    forkd.start()
    run = log.await_run(lambda run: run.last > run.begun + 0.5)
    begun = len(forkd.log.read_text())
    server.kill()
    cut = time.clock_gettime(time.CLOCK_BOOTTIME)
    until(lambda: "has lost its lease" in forkd.log.read_text()[begun:], 3)
    let_pass(cut + TTL + 0.3 - time.clock_gettime(time.CLOCK_BOOTTIME))
    assert log.run(run.token).last < cut + TTL
    assert alive(run.pid) == (manner != "stubborn")
    assert ("deaf" in log.whats()) == ((concurrency, manner) == ("eventlet", "stubborn"))
    told = forkd.log.read_text()[begun:].count("so tasks of the cluster stand by: ")
    assert told <= 3, "once by each worker, and by one that replaced one"
    server.start()
    again = log.await_run(lambda one: one.token > run.token, 20)
    log.judge()
    assert again.begun - cut < 20
    assert until(lambda: re.search(r"leases from \S+ again, after [\d.]+ s", forkd.log.read_text()))
    assert record(server.url, run.token)[run.token].outcome == ("expired" if manner == "stubborn" else "lost")
    with log.short_on():
        forkd.close()


def spent(forkd: Installed) -> float:
    """Return the seconds of processor time that the workers of `web` have taken."""
    (service,) = json.loads(forkd.run("status", "web", "--json").stdout)["services"]
    return sum(worker["cpu_seconds"] for worker in service["workers"])


@pytest.mark.parametrize(("kind", "concurrency"), PAIRS)
def test_a_backend_that_is_not_there_at_the_start_keeps_nobody_from_being_ready(forkd, server, url, log, concurrency):
    await_free(url, "web.task")
    server.stop()
    prepare(forkd, url, log, concurrency)
    forkd.start()
    until(lambda: forkd.log.read_text().count("so tasks of the cluster stand by: ") >= 2)
    before = spent(forkd)
    let_pass(1.0)
    assert spent(forkd) - before < 0.3, "a busy loop"
    assert log.runs() == []
    assert forkd.log.read_text().count("so tasks of the cluster stand by: ") == 2, "once by each worker"
    server.start()
    log.await_run(lambda run: run.ended, 20)


@pytest.fixture
def guarded(kind, server, short_tmp) -> Iterator[str]:
    """Yield the place of a server that lets somebody in by PASSWORD alone, with room for more before its host."""
    if kind == "postgresql":
        server.guard()
        yield f"postgresql://{GUARDED}%s127.0.0.1:{server.port}/postgres"
        return
    with Redis(short_tmp) as own:
        with own.client() as client:
            client.config_set("requirepass", PASSWORD)
        yield f"redis://%s127.0.0.1:{own.port}/0"


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_a_password_is_shown_nowhere(forkd, guarded, log):
    (forkd.folder / "pw").write_text(f"{PASSWORD}\n")
    user = "@" if guarded.startswith("postgresql") else ""
    prepare(forkd, guarded % user + "?ttl=1s&password_file=pw", log, "threads")
    forkd.start()
    log.await_run(lambda run: run.ended)
    os.environ["LEASE_PASSWORD"] = PASSWORD.replace("/", "%2F").replace("@", "%40")
    prepare(forkd, guarded % ":${LEASE_PASSWORD}@" + "?ttl=1s", log, "threads")
    forkd.process.terminate()
    forkd.wait()
    forkd.start()
    del os.environ["LEASE_PASSWORD"]
    last = log.runs()[-1].token
    log.await_run(lambda run: run.ended and run.token > last)
    shown = forkd.log.read_text() + json.dumps(forkd.status()) + "".join(forkd.titles())
    shown += forkd.run("status", "web").stdout + forkd.run("check", "-c", str(forkd.config)).stdout
    assert "hunter" not in shown


def test_without_a_lease_it_is_a_mistake(forkd, log):
    prepare(forkd, "redis://127.0.0.1:1/0", log, "threads")
    document = json.loads(forkd.config.read_text())
    del document["lease"]
    forkd.config.write_text(json.dumps(document))
    done = forkd.run("check", "-c", str(forkd.config), "--import")
    assert done.returncode == 78
    assert (
        "services.web.server: 'busy:Busy': a task with scope='cluster' needs to know where leases are kept"
        in done.stderr
    )
    assert "set `lease` beside `services`, as in `lease: redis://127.0.0.1:6379/0`" in done.stderr
    forkd.start(ready=False)
    until(lambda: "needs to know where leases are kept" in forkd.log.read_text())
