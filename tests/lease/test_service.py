"""Tasks of the cluster in a service of one's own, as a script or a debugger has it, with a real backend."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from forkd import Server, Service, lease, periodic_task
from forkd.lease import LeaseLost
from forkd.lease.deadline import Deadline, now
from forkd.threadgroup import Done
from tests.lease.backends import await_free
from tests.library.logs import logged

if TYPE_CHECKING:
    from forkd.lease import Lease


class Various(Server):
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.lost: list[float] = []

    @periodic_task(0.1, run_immediately=True, scope="cluster")
    def taking(self, lease: Lease) -> None:
        lease.check()
        assert not lease.lost
        self.tokens.append(lease.token)

    @periodic_task(0.1, run_immediately=True, scope="cluster")
    def without(self) -> None: ...

    @periodic_task(0.1, run_immediately=True, scope="cluster")
    def failing(self) -> None:
        raise KeyError("DSN")

    @periodic_task(0.1, run_immediately=True, scope="cluster")
    def once(self) -> None:
        raise Done("it was")


def started(url: str, engine: str, name: str) -> tuple[Service, Various]:
    server = Various()
    service = Service(server, name=name, concurrency=engine)
    service.lease = url
    service.start()
    return service, server


def await_runs(service: Service, task: str, least: int) -> None:
    ends = time.monotonic() + 20
    while service.server.timers[task].runs < least:
        service.thread_group.sleep(0.01)
        assert time.monotonic() < ends


def test_runs_are_made_counted_and_recorded(engine, url):
    name = f"script-{os.getpid()}"
    with logged() as records:
        service, server = started(url, engine, name)
        for task in ("taking", "without", "failing"):
            await_runs(service, task, 3)
        service.stop()
    service.wait()
    holder = f"{os.uname().nodename}/{name}/pid {os.getpid()}"
    found = lease.runs(url, name, "taking")[::-1]
    assert [run.token for run in found] == server.tokens
    assert {(run.holder, run.outcome) for run in found} == {(holder, "ok")}
    assert server.tokens == list(range(server.tokens[0], server.tokens[0] + len(server.tokens)))
    assert {run.outcome for run in lease.runs(url, name, "without")} == {"ok"}
    assert {run.outcome for run in lease.runs(url, name, "failing")} == {"failed"}
    assert [run.outcome for run in lease.runs(url, name, "once")] == ["ok"]
    assert service.server.timers["once"].result == "it was"
    assert sum("timer failing failed" in record for record in records) == service.server.timers["failing"].failures


def test_another_takes_over_at_once_what_is_given_back(engine, url):
    name = f"pair-{os.getpid()}"
    await_free(url, f"{name}.taking")  # within one lease, which is shorter than the next ones
    long = url.replace("ttl=1s", "ttl=5s")
    one, first = started(long, engine, name)
    await_runs(one, "taking", 1)
    other, second = started(long, engine, name)
    await_runs(one, "taking", 2)
    one.stop()
    begun = time.monotonic()
    seen = len(second.tokens)
    await_runs(other, "taking", seen + 3)
    assert time.monotonic() - begun < 3
    other.stop()
    assert not set(first.tokens) & set(second.tokens)


def test_a_run_that_is_stopped_at_once_is_recorded_and_given_back(engine, url):
    name = f"stopped-{os.getpid()}"

    class Long(Server):
        begun = 0

        @periodic_task(0.1, run_immediately=True, scope="cluster")
        def task(self, lease: Lease) -> None:
            self.begun += 1
            self.service.thread_group.sleep(60)

    service = Service(Long(), name=name, concurrency=engine)
    service.lease = url
    service.start()
    await_runs(service, "task", 1)
    service.stop(graceful=False)
    (run,) = lease.runs(url, name, "task")
    assert run.outcome == "stopped"
    assert run.ended is not None


def test_a_deadline_kills_whatever_the_process_does():
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        deadline = Deadline()
        deadline.set(now() + 3600, now() + 3600)
        deadline.clear()
        deadline.set(now() + 60, now() + 0.2)
        os.write(told, b".")
        while True:
            pass
    os.read(ready, 1)
    begun = time.monotonic()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -9
    assert time.monotonic() - begun < 2
    for fd in (ready, told):
        os.close(fd)


def test_a_lost_lease_is_no_exception_that_a_task_may_swallow():
    mine = lease.Lease("shop.task", 7)
    mine.check()
    mine.lose()
    assert mine.lost
    with pytest.raises(LeaseLost, match=r"the lease of task shop.task, token 7, is lost") as caught:
        mine.check()
    assert not isinstance(caught.value, Exception)
