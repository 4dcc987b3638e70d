"""Restart policies, and services that are given up."""

from __future__ import annotations

import pytest

from forkd.core.commands import Retire, StartZygote
from forkd.core.events import Draining, Exited, Ready, Reload, Restart, Scale, Stop
from forkd.core.spec import RestartSpec
from tests.core.puppet import Puppet, service

THRICE = RestartSpec(max_restarts=2, window=60.0, healthy_after=1.0)


def crash(world: Puppet, slot: int = 0, seconds: float = 5.0) -> None:
    """Let a worker die after it has lived for so long."""
    world.advance(seconds)
    world.tell(Exited(world.worker(slot), None, 11))


def test_one_failure_too_many_and_the_service_is_given_up():
    world = Puppet(service(workers=2, restart=THRICE))
    crash(world)
    crash(world, 1)
    assert world.status()["state"] == "running"
    world.take()
    crash(world)
    assert world.status()["state"] == "failed"
    error = "3 failures within 60 s, the last one: worker 0: died of SIGSEGV"
    assert (world.status()["error"], world.told("service_failed")[0].text) == (error, error)
    assert world.status()["workers"] == []
    assert world.status()["wanted"] == 2
    assert len(world.take(Retire)) == 1
    assert world.supervisor.deadline() is None


def test_failures_that_are_further_apart_do_not_add_up():
    world = Puppet(service(restart=THRICE))
    for _ in range(10):
        crash(world, seconds=31)
    assert world.status()["state"] == "running"


def test_workers_that_never_start_and_imports_that_fail_count():
    world = Puppet(service(restart=THRICE))
    world.bad_slots.add((1, 0))
    crash(world)
    world.advance(1)
    assert world.status()["error"] == (
        "3 failures within 60 s, the last one: worker 0 failed to start: OSError: no database"
    )
    world = Puppet(service(restart=THRICE))
    world.bad_imports.add(1)
    world.tell(Exited(world.zygote(1), None, 9))
    world.advance(1)
    assert str(world.status()["error"]).endswith("import failed: KeyError: 'DSN'")


def test_a_zygote_that_dies_with_many_orders_has_failed_once():
    world = Puppet(service(workers=20, restart=THRICE))
    world.unborn.add(1)
    world.tell(*(Exited(world.worker(slot), None, 9) for slot in range(2)))
    world.advance(1)
    lost = [world.worker(slot) for slot in range(2)]
    world.tell(*(Exited(worker, None, None) for worker in lost))
    assert world.status()["state"] == "degraded"
    world.tell(Exited(world.zygote(1), None, 9))
    assert str(world.status()["error"]).endswith("the last one: zygote: killed by operator or kernel")


def test_drains_reloads_and_failed_reloads_do_not_count():
    world = Puppet(service(restart=THRICE))
    for number in range(2, 10):
        world.advance(2)
        worker = world.worker()
        world.tell(Draining(worker), Exited(worker, 0, None))
        world.bad_imports.add(number)
        world.tell(Reload(number))
    assert world.status()["state"] == "running"
    assert not any(news.ok for news in world.told("ended"))


def test_an_import_that_ended_a_roll_does_not_count_with_what_fails_later():
    world = Puppet(service(restart=THRICE))
    world.bad_imports.add(2)
    world.tell(Reload(7))
    crash(world)
    crash(world)
    assert world.status()["state"] == "running"
    crash(world)
    assert world.status()["state"] == "failed"


@pytest.mark.parametrize("request_", [Restart(7), Restart(7, "shop"), Reload(7)])
def test_a_service_that_was_given_up_is_started_again(request_):
    world = Puppet(service(restart=THRICE))
    for _ in range(3):
        crash(world)
    world.take()
    world.tell(request_)
    assert world.status()["state"] == "running"
    assert world.told("ended")[-1][-3:] == (7, True, None)
    assert len(world.take(StartZygote)) == 1
    crash(world)
    assert world.status()["error"] is None


def test_one_that_was_given_up_can_be_stopped_but_not_scaled():
    world = Puppet(service(restart=THRICE))
    for _ in range(3):
        crash(world)
    world.tell(Scale(6, "shop", 3), Stop(7, "shop"))
    assert [news[-3:] for news in world.told("ended")] == [
        (6, False, "shop is failed: restart it first"),
        (7, True, None),
    ]
    assert world.status()["state"] == "stopped"


def test_what_fails_while_new_code_is_on_its_way_does_not_count():
    world = Puppet(service(restart=THRICE))
    world.slow_imports.add(2)
    world.tell(Reload(7))
    for _ in range(3):
        crash(world)
    assert world.status()["state"] == "reloading"
    world.tell(Ready(world.zygote(2)))
    assert world.told("ended")[0].ok


def test_who_waits_for_more_workers_is_told():
    world = Puppet(service(restart=THRICE))
    world.silent_slots.add((1, 1))
    world.tell(Scale(7, "shop", 2))
    for _ in range(3):
        crash(world)
    assert world.told("ended")[0][-3:-1] == (7, False)
    assert "3 failures within 60 s" in str(world.told("ended")[0].text)


def test_the_launcher_stops_with_it_where_told_so():
    world = Puppet(service("a", restart=THRICE), service("b"), exit_on_failed=True)
    assert not world.supervisor.failed
    for _ in range(3):
        world.advance(5)
        world.tell(Exited(world.worker(0, "a"), None, 11))
    assert world.supervisor.done
    assert world.supervisor.failed


# --- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "back"),
    [("always", 0, True), ("always", 1, True), ("on-failure", 0, False), ("on-failure", 1, True), ("never", 1, False)],
)
def test_who_is_replaced(policy, code, back):
    world = Puppet(service(restart=RestartSpec(policy=policy), workers=2))
    world.advance(20)
    world.tell(Exited(world.worker(0), code, None))
    world.advance(1)
    assert (0 in world.slots()) is back
    assert world.status()["wanted"] == 1 + back
    assert world.status()["state"] == "running"


def test_when_all_have_ended_it_is_stopped_and_a_restart_starts_all():
    world = Puppet(service(restart=RestartSpec(policy="on-failure"), workers=2))
    for slot in (0, 1):
        world.tell(Exited(world.worker(slot), 0, None))
    assert [news.ok for news in world.told("exited")] == [True, True]
    assert (world.status()["state"], world.status()["wanted"]) == ("stopped", 0)
    assert world.supervisor.deadline() is None
    world.tell(Restart(7, "shop"))
    assert world.slots() == {0: ("ready", 1), 1: ("ready", 1)}
    for slot in (0, 1):
        world.tell(Exited(world.worker(slot), 0, None))
    world.tell(Reload(8))
    assert world.slots() == {0: ("ready", 2), 1: ("ready", 2)}
    assert [news.ok for news in world.told("ended")] == [True, True]


def test_one_that_drains_unasked_is_judged_by_how_it_ends():
    world = Puppet(service(restart=RestartSpec(policy="on-failure")))
    world.advance(20)
    world.tell(Draining(world.worker()))
    assert world.slots() == {0: ("stopping", 1)}
    world.tell(Exited(world.worker(), 3, None))
    assert world.slots() == {0: ("ready", 1)}
    world.tell(Draining(world.worker()), Exited(world.worker(), 0, None))
    assert world.slots() == {}


def test_a_job_that_is_done_before_it_was_ready_has_not_failed():
    world = Puppet(service(restart=RestartSpec(policy="on-failure")))
    world.silent_slots.add((1, 0))
    world.tell(Restart(7, "shop"))
    world.tell(Exited(world.worker(), 0, None))
    assert world.status()["error"] is None


def test_never_holds_for_a_start_that_fails_too():
    world = Puppet(service(restart=RestartSpec(policy="never")))
    world.bad_slots.add((1, 0))
    world.tell(Stop(6, "shop"))
    world.tell(Restart(7, "shop"))
    world.advance(60)
    assert world.slots() == {}
    assert world.told("ended")[-1].text == "shop: worker 0 failed to start: OSError: no database"
