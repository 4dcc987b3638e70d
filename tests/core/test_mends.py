"""Faults that the simulator once found in the supervisor, each as the shortest history that shows it."""

from __future__ import annotations

from functools import partial

import pytest

from forkd.core.commands import ABRT, HUP, KILL, TERM, ReadConfig, Retire, Signal, Spawn, StartZygote
from forkd.core.events import Draining, Exited, Failed, Ready, Reload, Restart, Seen, Started, Stop
from forkd.core.spec import RestartSpec
from forkd.core.vigil import CONFIRM
from tests.core.puppet import Puppet, service


def _with_an_unborn_worker_of_the_old_code(world: Puppet) -> int:
    """Import a second generation while a worker of the first was ordered and has no pid; return that worker."""
    world.slow_imports.add(2)
    world.silent_slots.add((2, 0))
    world.tell(Reload(1))
    world.unborn.add(1)
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    unborn = world.worker()
    world.tell(Ready(world.zygote(2)))
    world.take()
    return unborn


def test_an_old_worker_that_is_aborted_at_its_start_during_a_roll_has_failed_all_the_same() -> None:
    world = Puppet(service(start_timeout=5))
    world.config = world.config._replace(services=(service(start_timeout=60),))
    world.slow_imports.add(2)
    world.silent_slots.add((1, 0))
    world.tell(Reload(1))
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    world.take()
    world.advance(5)
    assert world.slots() == {}
    assert world.status()["restarts"] == 2
    world.advance(0.2)
    assert len(world.take(Spawn)) == 1


def test_a_service_that_was_removed_cannot_be_restarted_while_it_drains() -> None:
    world = Puppet(service(), service("other"))
    world.stubborn.add(TERM)
    world.config = world.config._replace(services=(service("other"),))
    world.tell(Reload(1))
    world.tell(Restart(2, "shop"))
    assert world.told("ended")[0].text == "no service is named 'shop'; there are: shop, other"
    assert world.status()["state"] == "stopping"


def test_a_stop_of_a_removed_service_is_answered_when_the_service_comes_back() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    full, world.config = world.config, world.config._replace(services=())
    world.tell(Reload(1))
    world.tell(Stop(2, "shop"))
    world.config = full
    world.tell(Reload(3))
    assert [(news.ticket, news.ok) for news in world.told("ended")] == [(2, False)]


def test_a_zygote_that_is_slow_to_go_is_retired_once_whatever_is_asked_meanwhile() -> None:
    world = Puppet(service())
    world.lingering.add(1)
    world.take()
    world.tell(Stop(1, "shop"))
    world.tell(Restart(2, "shop"))
    world.tell(Stop(3, "shop"))
    assert world.take(Retire) == [Retire("shop", 1)]


def test_a_retired_zygote_that_does_not_go_is_killed() -> None:
    world = Puppet(service(kill_timeout=2))
    world.lingering.add(1)
    zygote = world.zygote(1)
    world.tell(Reload(1))
    world.take()
    world.advance(2)
    assert world.take() == [Signal(zygote, KILL)]


def test_what_a_rollback_leaves_above_the_wanted_number_makes_room_for_the_next_roll() -> None:
    world = Puppet(service(workers=2))
    small, world.config = world.config, world.config._replace(services=(service(workers=3),))
    world.silent_slots.add((1, 0))
    world.bad_slots |= {(2, 0), (2, 1)}
    world.tell(Exited(world.worker(0), None, 11))
    world.tell(Reload(1))
    assert world.slots() == {0: ("starting", 1), 1: ("ready", 1), 2: ("ready", 2)}
    world.config = small
    world.tell(Reload(2))
    assert world.slots() == {0: ("ready", 3), 1: ("ready", 3)}


def test_a_reload_in_place_reaches_a_worker_that_was_just_starting() -> None:
    world = Puppet(service(reload="signal"))
    world.silent_slots.add((1, 0))
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    young = world.worker()
    world.tell(Reload(1))
    world.take()
    world.tell(Ready(young))
    assert world.take() == [Signal(young, HUP)]


def test_a_reload_waits_while_two_dropped_generations_drain() -> None:
    world = Puppet(service())
    world.silent_slots |= {(2, 0), (3, 0)}
    dropped = []
    for ticket in (1, 2):
        world.tell(Reload(ticket))
        dropped.append(world.worker())
        world.tell(Draining(dropped[-1]))
    world.take()
    world.tell(Reload(3))
    assert world.take() == []
    world.tell(Exited(dropped[0], 0, None))
    assert world.slots()[0] == ("ready", 4)


def test_a_worker_found_superfluous_before_it_had_a_pid_is_told_when_it_has_one_whatever_is_wanted_by_then() -> None:
    world = Puppet(service())
    unborn = _with_an_unborn_worker_of_the_old_code(world)
    new = world.worker()
    world.tell(Failed(new, "OSError"), Exited(new, 1, None))
    assert world.told("rolled_back") != []
    world.take()
    world.tell(Started(unborn, 99))
    assert world.take() == [Signal(unborn, TERM)]


def test_a_worker_found_superfluous_that_serves_before_it_could_be_told_is_kept_if_it_is_wanted_again() -> None:
    world = Puppet(service())
    unborn = _with_an_unborn_worker_of_the_old_code(world)
    new = world.worker()
    world.tell(Failed(new, "OSError"), Exited(new, 1, None), Started(unborn, 99), Ready(unborn))
    assert world.take(Spawn) == []
    assert world.worker() == unborn


def test_a_zygote_is_not_blamed_for_a_worker_that_was_no_longer_wanted() -> None:
    world = Puppet(service(kill_timeout=2))
    unborn = _with_an_unborn_worker_of_the_old_code(world)
    world.advance(2)
    assert world.take() == [Signal(unborn, KILL)]


def test_a_worker_that_may_not_take_any_time_is_killed_in_the_plan_that_stops_it() -> None:
    world = Puppet(service(kill_timeout=0))
    world.unborn.add(1)
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    world.tell(Stop())
    assert world.supervisor.done


def test_a_reload_that_removes_a_service_is_answered_also_when_everything_is_stopped_meanwhile() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    worker = world.worker()
    world.config = world.config._replace(services=())
    world.tell(Reload(1))
    world.tell(Stop(2))
    world.tell(Exited(worker, 0, None))
    assert [news.ticket for news in world.told("ended")] == [1, 2]
    assert world.supervisor.done


def test_a_machine_that_slept_before_a_plan_that_was_due_at_once_gets_the_time_back() -> None:
    world = Puppet(service(start_timeout=5))
    world.tell(Exited(world.worker(), None, 11))
    world.now += 0.1
    world.supervisor.plan(world.now)
    world.tell(Started(world.worker(), 99), run=False)
    world.take()
    assert world.supervisor.deadline() == world.now
    world.now += 3600
    world.run()
    assert world.take() == []


def test_a_reload_that_waited_for_a_restart_begins_in_the_plan_that_ends_it() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    old = world.worker()
    world.tell(Restart(1))
    world.tell(Reload(2))
    world.take()
    world.tell(Exited(old, 0, None))
    assert world.take()[0] == ReadConfig()


def test_a_generation_that_never_had_a_zygote_is_not_retired() -> None:
    world = Puppet(service())
    world.tell(Stop(1, "shop"))
    world.take()
    world.tell(Reload(2))
    assert world.take() == [ReadConfig()]


def test_workers_that_drain_of_their_own_accord_are_all_replaced_at_once() -> None:
    world = Puppet(service(workers=3))
    world.advance(10)
    world.take()
    world.tell(*[Draining(world.worker(slot)) for slot in range(3)])
    assert len(world.take(Spawn)) == 3


def test_slots_that_nobody_serves_are_filled_first() -> None:
    world = Puppet(service())
    world.config = world.config._replace(services=(service(workers=2),))
    world.take()
    world.tell(Reload())
    assert [command.slot for command in world.take(Spawn)] == [1, 0]


def test_a_rollback_fills_at_once_what_died_during_the_roll() -> None:
    world = Puppet(service())
    world.slow_imports.add(2)
    world.tell(Reload(1))
    world.tell(Exited(world.worker(), None, 11))
    assert world.slots() == {}
    world.tell(Failed(world.zygote(2), "KeyError"), Exited(world.zygote(2), 1, None))
    assert world.slots() == {0: ("ready", 1)}


def test_the_time_of_a_retired_zygote_runs_while_what_comes_after_it_stops_too() -> None:
    world = Puppet(service("db", kill_timeout=2), service(after=("db",)))
    world.lingering.add(1)
    world.stubborn.add(TERM)
    world.tell(Stop(1, "db"))
    world.tell(Stop(2, "shop"))
    world.tell(Exited(world.worker(name="db"), 0, None))
    world.take()
    world.advance(2)
    assert world.take() == [Signal(world.zygote(1, "db"), KILL)]


@pytest.mark.parametrize("last", [Draining, partial(Exited, code=None, signal=11)])
def test_a_worker_that_goes_when_it_was_just_found_to_hang_has_failed_once(last) -> None:
    world = Puppet(service(hang_timeout=5, restart=RestartSpec(delay=1, factor=3)))
    worker = world.worker()
    world.hung_since[worker] = 0.0
    world.advance(5)
    world.now += CONFIRM
    world.tell(Seen(worker, 0.0), last(worker))
    assert world.status()["restarts"] == 1
    world.take()
    world.advance(1)
    assert len(world.take(Spawn)) == 1


def test_any_number_of_hups_during_a_reload_is_one_more() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    old = world.worker()
    world.tell(Reload())
    world.tell(*[Reload()] * 1000)
    world.stubborn.clear()
    world.tell(Exited(old, 0, None))
    assert len(world.told("reload_ended")) == 2


def test_a_roll_to_code_that_dies_again_and_again_once_it_serves_is_taken_back() -> None:
    world = Puppet(service(workers=2))
    world.silent_slots.add((2, 1))
    world.tell(Reload(1))
    world.tell(Exited(world.worker(0), None, 11))
    assert world.told("rolled_back") == []
    world.advance(0.1)
    world.tell(Exited(world.worker(0), None, 11))
    assert [news.text for news in world.told("rolled_back")] == ["worker 0: died of SIGSEGV"]
    assert world.slots() == {0: ("ready", 1), 1: ("ready", 1)}
    assert world.told("ended")[0].ok is False
    world.tell(Reload(2))
    world.tell(Ready(world.worker(1)))
    assert world.slots() == {0: ("ready", 3), 1: ("ready", 3)}


def test_a_restart_of_workers_that_die_again_and_again_is_over() -> None:
    world = Puppet(service(workers=2))
    world.silent_slots.add((1, 1))
    world.tell(Restart(1))
    for _ in range(2):
        world.tell(Exited(world.worker(0), None, 11))
        world.advance(0.1)
    assert [(news.ticket, news.text) for news in world.told("ended")] == [(1, "shop: worker 0: died of SIGSEGV")]


def test_a_worker_that_dies_after_a_healthy_life_during_a_roll_is_replaced() -> None:
    world = Puppet(service(workers=2, start_timeout=60))
    world.silent_slots.add((2, 1))
    world.tell(Reload(1))
    for lived in (0.1, 20.0):
        world.advance(lived)
        world.tell(Exited(world.worker(0), None, 11))
    assert world.told("rolled_back") == []
    assert world.slots()[0] == ("ready", 2)


def test_a_zygote_that_was_killed_before_a_stop_does_not_hold_up_the_start_after_it() -> None:
    world = Puppet(service(workers=0, start_timeout=5, kill_timeout=1))
    world.slow_imports.add(1)
    world.tell(Exited(world.zygote(1), None, 9))
    world.stubborn |= {ABRT, KILL}
    world.lingering.add(1)
    world.advance(7)
    killed = world.zygote(1)
    world.tell(Stop(1, "shop"))
    world.tell(Restart(2, "shop"))
    world.take()
    world.tell(Exited(killed, None, 9))
    assert len(world.take(StartZygote)) == 1
