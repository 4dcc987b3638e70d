"""What operators do to the number of workers, and the signals that they send."""

from __future__ import annotations

import pytest

from forkd.core.commands import KILL, STACKS, TERM, Signal
from forkd.core.events import Draining, Exited, Reload, Restart, Scale, SignalWorkers, Stop
from forkd.core.spec import MOST_WORKERS
from tests.core.puppet import Puppet, service


def ended(world: Puppet) -> list[tuple[int | None, bool | None, str | None]]:
    return [(news.ticket, news.ok, news.text) for news in world.told("ended")]


def test_scale_up_and_down():
    world = Puppet(service(workers=2))
    world.tell(Scale(1, "shop", 5))
    assert sorted(world.slots()) == [0, 1, 2, 3, 4]
    assert world.status()["wanted"] == 5
    world.tell(Scale(2, "shop", 1))
    assert sorted(world.slots()) == [0]
    assert ended(world) == [(1, True, None), (2, True, None)]
    assert [news.text for news in world.told("scaled")] == ["5 workers wanted", "1 worker wanted"]
    assert world.status()["restarts"] == 0


def test_scale_to_none_and_back():
    world = Puppet(service())
    world.tell(Scale(1, "shop", 0))
    assert (world.slots(), world.status()["state"]) == ({}, "running")
    world.tell(Scale(2, "shop", 1))
    assert world.slots() == {0: ("ready", 1)}


@pytest.mark.parametrize(("steps", "left"), [([1, 1], 4), ([-1], 1), ([-1, -1, -1], 1), ([20_000], MOST_WORKERS)])
def test_one_more_or_less_of_the_only_service(steps, left):
    world = Puppet(service(workers=2))
    world.unborn.add(1)
    for step in steps:
        world.tell(Scale(0, None, step, relative=True))
    assert world.status()["wanted"] == left


def test_one_more_of_which_service():
    world = Puppet(service("a"), service("b"))
    world.tell(Scale(0, None, 1, relative=True))
    assert ended(world) == [(0, False, "there are 2 services: name the one to scale")]
    assert [news.text for news in world.told("refused")] == ["scale: there are 2 services: name the one to scale"]


def test_one_more_of_the_only_service_beside_one_that_was_removed_and_drains():
    world = Puppet(service("a"), service("b"))
    world.stubborn.add(TERM)
    world.config = world.config._replace(services=(service("b"),))
    world.tell(Reload(1))
    world.tell(Scale(0, None, 1, relative=True))
    assert world.status("b")["wanted"] == 2


def test_forkd_s_own_service_does_not_count():
    world = Puppet(service("healthcheck"), service("b"))
    world.tell(Scale(3, None, 1, relative=True))
    assert world.status("b")["wanted"] == 2


def test_forkd_s_own_service_comes_with_the_first_that_needs_it_and_goes_with_a_reload_of_all():
    world = Puppet(service("a"), service("b"))
    world.config = world.config._replace(services=(service("a"), service("b"), service("healthcheck")))
    world.tell(Reload(1, "a"))
    assert world.slots("healthcheck") == {0: ("ready", 2)}
    assert world.slots("b") == {0: ("ready", 1)}
    world.config = world.config._replace(services=(service("a"), service("b")))
    world.tell(Reload(2, "a"))
    assert world.slots("healthcheck") == {0: ("ready", 2)}
    world.tell(Reload(3))
    assert [one["name"] for one in world.supervisor.snapshot(0.0)["services"]] == ["a", "b"]
    assert [news.ok for news in world.told("ended")] == [True, True, True]


def test_forkd_s_own_service_comes_back_though_it_still_goes():
    world = Puppet(service("a"), service("healthcheck"))
    with_it, first = world.config, world.worker(0, "a")
    world.stubborn.add(TERM)
    world.config = with_it._replace(services=(service("a"),))
    world.tell(Reload(1))
    world.tell(Exited(first, 0, None))
    old = world.worker(0, "healthcheck")
    world.config = with_it
    world.tell(Reload(2, "a"))
    world.tell(Exited(old, 0, None))
    assert world.slots("healthcheck") == {0: ("ready", 3)}


def test_a_service_that_is_not_there_or_stopped_is_not_scaled():
    world = Puppet(service())
    world.tell(Scale(1, "shp", 3))
    world.tell(Stop(2, "shop"), Scale(3, "shop", 3))
    assert ended(world) == [
        (1, False, "no service is named 'shp'; there are: shop"),
        (3, False, "shop is stopped: restart it first"),
        (2, True, None),
    ]


def test_the_number_holds_over_a_restart_and_a_failed_reload_until_one_that_succeeds():
    world = Puppet(service(workers=2))
    world.tell(Scale(1, "shop", 4))
    world.tell(Restart(2, "shop"))
    assert len(world.slots()) == 4
    world.bad_imports.add(2)
    world.tell(Reload(3))
    assert world.status()["wanted"] == 4
    world.tell(Reload(4))
    assert sorted(world.slots()) == [0, 1]
    assert world.status()["wanted"] == 2


def test_the_number_holds_over_a_stop_but_not_over_a_reload_in_place():
    world = Puppet(service(workers=1, reload="signal"))
    world.tell(Scale(1, "shop", 2))
    world.tell(Stop(2, "shop"))
    world.tell(Restart(3, "shop"))
    assert len(world.slots()) == 2
    world.tell(Reload(4))
    assert len(world.slots()) == 1


def test_new_workers_that_fail_end_the_request_and_are_tried_again():
    world = Puppet(service())
    world.bad_slots.add((1, 1))
    world.tell(Scale(1, "shop", 2))
    assert ended(world) == [(1, False, "shop: worker 1 failed to start: OSError: no database")]
    assert (world.status()["state"], world.status()["wanted"]) == ("degraded", 2)
    world.bad_slots.clear()
    world.advance(1)
    assert world.status()["state"] == "running"


def test_a_stop_ends_the_wait():
    world = Puppet(service())
    world.silent_slots.add((1, 1))
    world.tell(Scale(1, "shop", 2))
    world.tell(Stop(2, "shop"))
    assert ended(world)[0] == (1, False, "shop: stopped meanwhile")


def test_signals_go_to_all_or_to_one_slot():
    world = Puppet(service("a", workers=2), service("b"))
    ids = [world.worker(0, "a"), world.worker(1, "a"), world.worker(0, "b")]
    world.take()
    world.tell(SignalWorkers(1, None, None, 10))
    assert world.take() == [Signal(id, 10) for id in ids]
    world.tell(SignalWorkers(2, "a", None, STACKS))
    assert world.take() == [Signal(id, STACKS) for id in ids[:2]]
    world.tell(SignalWorkers(3, "a", 1, 12))
    assert world.take() == [Signal(ids[1], 12)]
    assert ended(world) == [(1, True, None), (2, True, None), (3, True, None)]


def test_a_slot_means_its_ready_worker_else_the_newest():
    world = Puppet(service())
    old = world.worker()
    world.silent_slots.add((2, 0))
    world.tell(Reload(1))
    new = world.worker()
    world.take()
    world.tell(SignalWorkers(2, "shop", 0, 10))
    assert world.take() == [Signal(old, 10)]
    world.stubborn.add(TERM)
    world.tell(Draining(old), SignalWorkers(3, "shop", 0, 10))
    assert world.take(Signal)[0] == Signal(new, 10)


def test_who_is_killed_by_an_operator_is_replaced():
    world = Puppet(service())
    world.advance(10)
    world.tell(SignalWorkers(1, "shop", 0, KILL))
    assert world.slots() == {0: ("ready", 1)}
    assert world.status()["restarts"] == 1


def test_no_worker_to_signal():
    world = Puppet(service())
    world.tell(SignalWorkers(1, "shop", 7, 10), SignalWorkers(2, "shp", None, 10))
    assert ended(world) == [
        (1, False, "no worker of shop/7 lives"),
        (2, False, "no service is named 'shp'; there are: shop"),
    ]


def test_a_worker_that_died_meanwhile_is_not_signalled():
    world = Puppet(service())
    old = world.worker()
    world.take()
    world.tell(SignalWorkers(1, "shop", 0, 10), Exited(old, None, KILL))
    assert world.take(Signal) == []
