"""`@periodic_task`: what it takes, what is inherited, what each task's timer does."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import pytest

from forkd import Server, Service, periodic_task, scoreboard
from forkd.periodic import Periodic
from forkd.scoreboard import Board, Reader
from forkd.service import Inheritance
from tests.library.logs import logged


class Base(Server):
    @periodic_task
    def bare(self) -> None: ...

    @periodic_task(5, run_immediately=True)
    def soon(self) -> str:
        return "called"

    @periodic_task(spacing=0.5, enabled=False)
    def off(self) -> None: ...

    def plain(self) -> None: ...


def test_each_task_has_its_settings():
    assert Base.periodic_tasks() == {
        "bare": Periodic(60.0, run_immediately=False, enabled=True),
        "soon": Periodic(5.0, run_immediately=True, enabled=True),
        "off": Periodic(0.5, run_immediately=False, enabled=False),
    }


def test_a_task_can_be_called_like_any_method():
    assert Base().soon() == "called"


def test_a_subclass_inherits_replaces_and_drops_tasks():
    class Sub(Base):
        @periodic_task(7)
        def bare(self) -> None: ...

        @periodic_task(enabled=False)
        def soon(self) -> str:
            return super().soon()

        def off(self) -> None: ...

        @periodic_task(1)
        def own(self) -> None: ...

    class Mixin:
        @periodic_task(3)
        def mixed(self) -> None: ...

    class Both(Mixin, Sub):
        own = None  # type: ignore[assignment]

    assert [(name, how.spacing, how.enabled) for name, how in Sub.periodic_tasks().items()] == [
        ("bare", 7.0, True),
        ("soon", 60.0, False),
        ("own", 1.0, True),
    ]
    assert list(Both.periodic_tasks()) == ["bare", "soon", "mixed"]
    assert len(Base.periodic_tasks()) == 3


def test_looking_for_tasks_evaluates_no_property():
    class Touchy(Server):
        @property
        def costly(self) -> None:
            raise AssertionError("evaluated")

    assert Touchy.periodic_tasks() == {}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"spacing": 0}, ValueError, "spacing: expected more than 0 seconds, got 0"),
        ({"spacing": -1}, ValueError, "spacing"),
        ({"spacing": float("nan")}, ValueError, "spacing"),
        ({"spacing": True}, ValueError, "spacing"),
        ({"spacing": "5s"}, ValueError, "spacing: .* got '5s'"),
        ({"jitter": -1}, ValueError, "jitter: expected more than 0 seconds, got -1"),
        ({"jitter": "10%"}, ValueError, "jitter: .* got '10%'"),
        ({"timeout": 0}, ValueError, "timeout: expected more than 0 seconds, got 0"),
        ({"cron": "0 25 * * *"}, ValueError, r"cron='0 25 \* \* \*': bad hour"),
        ({"cron": "@never"}, ValueError, "cron='@never': expected five fields"),
        ({"cron": 5}, ValueError, "cron: expected an expression, got 5"),
        ({"cron": "@daily", "spacing": 5}, ValueError, "cron='@daily' takes the place of spacing=5: give one"),
        ({"scope": "host"}, ValueError, "scope: expected 'worker', 'service' or 'cluster', got 'host'"),
        ({"every": 5}, TypeError, "unexpected keyword argument 'every'"),
    ],
)
def test_what_is_refused_at_decoration(arguments, error, text):
    with pytest.raises(error, match=text):
        periodic_task(**arguments)


def test_what_is_said_of_a_task_is_kept():
    class Taking(Server):
        @periodic_task(5, jitter=2, timeout=3, scope="service")
        def spaced(self) -> None: ...

        @periodic_task(cron="@hourly", run_immediately=True)
        def on_the_hour(self) -> None: ...

    assert Taking.periodic_tasks() == {
        "spaced": Periodic(5.0, jitter=2, timeout=3, scope="service"),
        "on_the_hour": Periodic(60.0, run_immediately=True, cron="@hourly"),
    }


@pytest.mark.parametrize("wrapper", [staticmethod, classmethod, property])
def test_other_decorators_go_above(wrapper):
    with pytest.raises((TypeError, ValueError), match="@periodic_task"):
        periodic_task(wrapper(lambda: None))
    with pytest.raises(TypeError, match="below other decorators"):
        periodic_task(5)(wrapper(lambda: None))


def test_a_coroutine_function_is_refused():
    async def later(self) -> None: ...

    with pytest.raises(TypeError, match="coroutine function"):
        periodic_task(5)(later)


def test_tasks_run_in_the_servers_service(engine):
    class Busy(Server):
        def init(self, service: Service) -> None:
            self.calls: list[str] = []
            self.enough = service.thread_group.event()
            super().init(service)

        @periodic_task(0.01)
        def often(self) -> None:
            self.calls.append("often")
            if (
                self.calls.count("often") >= 3
                and {"at once", "blocks"} < set(self.calls)
                and self.calls.count("fails") > 1
            ):
                self.enough.set()

        @periodic_task(3600, run_immediately=True)
        def at_once(self) -> None:
            self.calls.append("at once")

        @periodic_task(3600)
        def not_yet(self) -> None:
            self.calls.append("not yet")

        @periodic_task(0.001, enabled=False)
        def off(self) -> None:
            self.calls.append("off")

        @periodic_task(0.01)
        def blocks(self) -> None:
            assert self.service is not None
            self.calls.append("blocks")
            self.service.thread_group.sleep(3600)

        @periodic_task(0.01)
        def fails(self) -> None:
            self.calls.append("fails")
            raise KeyError("DSN")

    server = Busy()
    service = Service(server, concurrency=engine)
    with logged() as records:
        service.start()
        assert server.enough.wait(5)
        service.stop(graceful=False)
        service.wait()
    assert set(server.calls) == {"often", "at once", "blocks", "fails"}
    assert set(server.timers) == {"often", "at_once", "not_yet", "blocks", "fails"}
    assert server.timers["blocks"].runs == 1
    assert server.timers["fails"].failures == server.timers["fails"].runs > 0
    assert "Busy.fails failed" in records[0]
    assert all(timer.done for timer in server.timers.values())


def test_what_becomes_of_a_task_stands_on_the_scoreboard(engine):
    class Mixed(Server):
        @periodic_task(0.01, timeout=0.02)
        def mixed(self) -> None:
            assert self.service is not None
            if self.timers["mixed"].runs == 1:
                self.service.thread_group.sleep(0.1)
            if self.timers["mixed"].runs > 2:
                enough.set()
                raise KeyError("DSN")

        @periodic_task(3600)
        def not_yet(self) -> None: ...

    with scoreboard.created(8) as fd:
        reader = Reader(fd)
        server, board = Mixed(), Board(os.dup(fd))
    service = Service(server, concurrency=engine)
    service.adopt(Inheritance(board=board))
    enough = service.thread_group.event()
    begun = time.time()
    service.start()
    assert enough.wait(5)
    service.stop()
    assert board.names() == [("task", "mixed"), ("task", "not_yet")]
    mixed, not_yet = reader.read(board.names()).tallies
    timer = server.timers["mixed"]
    assert mixed.values[:4] == (2, timer.failures, 1, timer.skipped)
    assert timer.runs == 2 + timer.failures
    assert timer.skipped > 5
    assert begun <= mixed.values[4] / 1e9 <= time.time()
    assert mixed.values[5] / 1e9 == pytest.approx(timer.lateness, abs=1e-8)
    assert not_yet.values == (0, 0, 0, 0, 0, 0)


def test_jitter_cron_and_timeout_reach_the_timer(engine):
    class Various(Server):
        @periodic_task(0.05, jitter=0.05)
        def jittered(self) -> None:
            instants.append(time.monotonic())
            if len(instants) >= 10:
                enough.set()

        @periodic_task(cron="* * * * *", run_immediately=True)
        def by_cron(self) -> None: ...

        @periodic_task(3600, run_immediately=True, timeout=0.01)
        def long(self) -> None:
            enough.wait()

        @periodic_task(3600, run_immediately=True, scope="service")
        def alone(self) -> None: ...

    instants: list[float] = []
    server = Various()
    service = Service(server, concurrency=engine)
    enough = service.thread_group.event()
    with logged() as records:
        service.start()
        assert enough.wait(10)
        service.stop()
    assert len({round(later - sooner, 3) for sooner, later in itertools.pairwise(instants)}) > 3
    assert server.timers["by_cron"].runs >= 1
    assert server.timers["long"].overruns == 1
    assert server.timers["alone"].runs == 1, "outside the daemon each process is alone"
    assert len(records) == 1
    assert "Various.long: a call has run for more than 0.01 s" in records[0]


def test_a_task_without_cron_does_not_import_its_parser():
    code = "import sys, tests.library.test_periodic; print(sorted({'cronsim', 'forkd.claim'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
