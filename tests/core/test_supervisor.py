"""The supervisor's rules, each as a short history."""

from __future__ import annotations

import json

import pytest

from forkd.core.commands import ABRT, HUP, KILL, QUIT, SIGNALS, TERM, ReadConfig, Retire, Signal, Spawn, StartZygote
from forkd.core.events import ConfigRead, ConfigRefused, Draining, Exited, Failed, Ready, Reload, Restart, Started, Stop
from forkd.core.rules import STARTS_AT_ONCE
from forkd.core.spec import RestartSpec
from tests.core.puppet import Puppet, service


def test_start_brings_every_slot_to_ready() -> None:
    world = Puppet(service(workers=3))
    assert world.slots() == {0: ("ready", 1), 1: ("ready", 1), 2: ("ready", 1)}
    assert world.status()["state"] == "running"
    assert world.supervisor.deadline() is None


def test_no_worker_is_spawned_before_the_import_is_done() -> None:
    world = Puppet.__new__(Puppet)
    world.__init__(service())  # type: ignore[misc]
    assert [type(command) for command in world.take()] == [StartZygote, Spawn]


def test_a_service_of_no_workers_runs_with_its_zygote_alone() -> None:
    world = Puppet(service(workers=0))
    assert world.status()["state"] == "running"
    assert len(world.take(StartZygote)) == 1


def test_a_failed_import_is_tried_again_by_backoff_and_says_why() -> None:
    world = Puppet(service())
    world.bad_imports.add(1)
    world.tell(Exited(world.worker(), None, KILL), Exited(world.zygote(1), None, KILL))
    assert world.status()["state"] == "backoff"
    world.advance(0.1)
    assert "KeyError: 'DSN'" in world.status()["error"]
    world.take()
    world.advance(0.19)
    assert world.take(StartZygote) == []
    world.advance(0.02)
    assert len(world.take(StartZygote)) == 1


def test_a_zygote_that_cannot_be_started_is_no_failed_import() -> None:
    world = Puppet(service())
    world.no_ports.add(2)
    world.tell(Reload(7))
    assert world.told("ended")[0][-3:] == (7, False, "shop: could not be started: cannot listen")


def test_status_says_how_the_worker_ended_that_is_missing() -> None:
    world = Puppet(service(workers=2, restart=RestartSpec(5.0, 5.0)))
    world.tell(Exited(world.worker(0), 3, None))
    assert world.status()["state"] == "degraded"
    assert world.status()["error"] == "worker 0 ended: exited with code 3"
    world.advance(1.0)
    world.tell(Exited(world.worker(1), None, 11))
    assert world.status()["state"] == "backoff"
    assert world.status()["error"] == "worker 1 ended: died of SIGSEGV"
    world.advance(10.0)
    assert world.status()["state"] == "running"
    assert world.status()["error"] is None


@pytest.mark.parametrize(("factor", "waits"), [(2.0, [0.1, 0.2, 0.4, 0.5, 0.5]), (1.0, [0.1, 0.1, 0.1])])
def test_respawn_waits_grow_to_a_ceiling_per_slot(factor: float, waits: list[float]) -> None:
    world = Puppet(service(workers=2, restart=RestartSpec(0.1, 0.5, factor, 10.0)))
    for wait in waits:
        world.tell(Exited(world.worker(0), None, 11))
        assert 0 not in world.slots()
        world.advance(wait - 0.001)
        assert 0 not in world.slots()
        world.advance(0.002)
        assert world.slots() == {0: ("ready", 1), 1: ("ready", 1)}
    assert world.status()["restarts"] == len(waits)


def test_first_respawn_after_a_healthy_run_is_at_once() -> None:
    world = Puppet(service())
    world.advance(10)
    world.tell(Exited(world.worker(), None, KILL))
    assert world.slots() == {0: ("ready", 1)}
    assert world.status()["workers"][0]["last_exit"]["reason"] == "killed by operator or kernel"


def test_a_worker_that_drains_of_its_own_accord_is_replaced_before_it_is_gone() -> None:
    world = Puppet(service())
    world.advance(10)
    old = world.worker()
    world.tell(Draining(old))
    assert [w["phase"] for w in world.status()["workers"]] == ["stopping", "ready"]
    world.tell(Draining(old), Exited(old, 0, None))
    assert world.status()["restarts"] == 1
    assert world.status()["workers"][0]["last_exit"]["reason"] == "drained after a signal from outside"


def test_a_drain_that_never_ends_climbs_the_ladder() -> None:
    world = Puppet(service(stop_timeout=3, kill_timeout=2))
    world.stubborn |= {TERM, ABRT}
    world.advance(10)
    old = world.worker()
    world.tell(Draining(old))
    world.take()
    world.advance(5)
    assert world.take(Signal) == [Signal(old, ABRT), Signal(old, KILL)]


def test_a_worker_that_never_gets_ready_is_aborted_and_tried_again() -> None:
    world = Puppet(service(workers=2, start_timeout=5))
    world.silent_slots.add((1, 1))
    world.tell(Exited(world.worker(1), None, 11))
    world.advance(0.1)
    assert world.slots() == {0: ("ready", 1), 1: ("starting", 1)}
    world.take()
    world.advance(5)
    assert [command.signal for command in world.take(Signal)] == [ABRT]
    assert "not ready within 5 s" in world.status()["error"]
    assert world.status()["state"] == "degraded"
    world.silent_slots.clear()
    world.advance(1)
    assert world.status()["state"] == "running"
    assert world.status()["error"] is None


def test_a_zygote_that_does_not_fork_is_replaced() -> None:
    world = Puppet(service(workers=2, start_timeout=5))
    world.unborn.add(1)
    zygote = world.zygote(1)
    world.tell(Exited(world.worker(0), None, 11), Exited(world.worker(1), None, 11))
    world.advance(0.1)
    lost = [world.worker(0), world.worker(1)]
    world.take()
    world.advance(5)
    assert world.take(Signal)[:3] == [Signal(lost[0], KILL), Signal(zygote, KILL), Signal(lost[1], KILL)]
    world.unborn.clear()
    world.advance(1)
    assert world.status()["state"] == "running"


def test_a_zygote_that_dies_leaves_its_workers_alone() -> None:
    world = Puppet(service(workers=2))
    world.advance(10)
    ids = [world.worker(0), world.worker(1)]
    world.take()
    world.tell(Exited(world.zygote(1), None, KILL))
    assert [type(command) for command in world.take()] == [StartZygote]
    assert [world.worker(0), world.worker(1)] == ids


def test_an_import_that_takes_too_long_is_aborted() -> None:
    world = Puppet(service(start_timeout=5, kill_timeout=1))
    world.slow_imports.add(2)
    world.stubborn |= {ABRT}
    world.tell(Reload(7))
    world.take()
    world.advance(6)
    zygote = world.zygote(2)
    assert world.take()[:2] == [Signal(zygote, ABRT), Signal(zygote, KILL)]
    assert world.told("ended")[0][-3:] == (7, False, "shop: import failed: not ready within 5 s")


def test_reload_replaces_one_by_one_each_ready_before_an_old_one_stops() -> None:
    world = Puppet(service(workers=2))
    first, second = world.worker(0), world.worker(1)
    world.take()
    world.tell(Reload(7))
    steps = world.take()
    assert [type(step) for step in steps] == [ReadConfig, StartZygote, Spawn, Signal, Spawn, Signal, Retire]
    assert [step for step in steps if isinstance(step, Signal)] == [Signal(first, TERM), Signal(second, TERM)]
    assert world.slots() == {0: ("ready", 2), 1: ("ready", 2)}
    assert world.told("ended")[0][-3:] == (7, True, None)
    assert world.status()["generation"] == 2


def test_a_roll_waits_for_an_old_worker_to_drain_when_the_surge_is_used() -> None:
    world = Puppet(service(workers=2, stop_timeout=9))
    world.stubborn.add(TERM)
    old = world.worker(0)
    world.tell(Reload())
    assert [w["phase"] for w in world.status()["workers"]] == ["stopping", "ready", "ready"]
    assert world.status()["state"] == "reloading"
    world.tell(Exited(old, 0, None))
    assert world.slots() == {0: ("ready", 2), 1: ("ready", 2)}
    world.advance(9)
    assert world.status()["state"] == "running"


def test_a_new_generation_that_does_not_import_changes_nothing() -> None:
    world = Puppet(service(workers=2))
    ids = [world.worker(0), world.worker(1)]
    world.bad_imports.add(2)
    world.tell(Reload(7))
    assert [world.worker(0), world.worker(1)] == ids
    assert world.told("ended")[0][-3:] == (7, False, "shop: import failed: KeyError: 'DSN'")
    assert world.status()["generation"] == 1
    assert world.supervisor.snapshot(0)["forkd"]["last_reload"]["ok"] is False


def test_a_roll_that_fails_at_its_last_worker_is_rolled_back_whole() -> None:
    world = Puppet(service(workers=3), service("other"))
    world.bad_slots.add((2, 2))
    world.tell(Reload(7))
    assert world.slots() == dict.fromkeys(range(3), ("ready", 1))
    assert world.slots("other") == {0: ("ready", 2)}
    assert world.told("ended")[0].ok is False
    assert "worker 2 failed to start: OSError: no database" in str(world.told("rolled_back")[0].text)
    assert len(world.take(Retire)) == 2


def test_a_service_that_stops_is_closed_at_once_and_starts_again_when_all_of_it_has_gone() -> None:
    world = Puppet(service(stop_timeout=9))
    world.stubborn.add(TERM)
    worker = world.worker()
    world.take()
    world.tell(Stop(7, "shop"))
    assert world.take() == [Signal(worker, TERM), Retire("shop", 1)]
    world.tell(Restart(8, "shop"))
    assert world.take() == []
    world.tell(Exited(worker, 0, None))
    assert [type(step) for step in world.take()] == [StartZygote, Spawn]
    assert [(news.ticket, news.ok) for news in world.told("ended")] == [(7, False), (8, True)]


def test_a_zygote_that_stays_after_its_workers_is_killed() -> None:
    world = Puppet(service(stop_timeout=9, kill_timeout=2))
    world.lingering.add(1)
    world.stubborn.add(TERM)
    worker, zygote = world.worker(), world.zygote(1)
    world.tell(Stop(0, "shop"))
    world.take()
    world.advance(5)
    world.tell(Exited(worker, 0, None))
    world.advance(1.9)
    assert world.take() == []
    world.advance(0.2)
    assert world.take() == [Signal(zygote, KILL)]


def test_a_reload_is_over_when_the_old_zygote_is_gone_too() -> None:
    world = Puppet(service())
    world.lingering.add(1)
    world.tell(Reload(7))
    assert world.slots() == {0: ("ready", 2)}
    assert world.told("ended") == []
    world.tell(Exited(world.zygote(1), 0, None))
    assert [(news.ticket, news.ok) for news in world.told("ended")] == [(7, True)]


def test_a_zygote_that_is_stopped_while_it_imports_has_not_failed() -> None:
    world = Puppet(service())
    world.slow_imports.add(1)
    world.lingering.add(1)
    world.stubborn.add(KILL)
    world.tell(Exited(world.worker(), None, 9), Exited(world.zygote(1), None, 9))
    world.advance(0.1)
    world.tell(Stop(7, "shop"))
    world.tell(Restart(8, "shop"))
    world.take()
    world.tell(Exited(world.zygote(1), None, KILL))
    assert [type(command) for command in world.take()] == [StartZygote]
    assert world.status()["error"] is None


def test_a_rollback_from_many_to_few_does_not_jam() -> None:
    world = Puppet(service(workers=2))
    world.config = world.config._replace(services=(service(workers=10),))
    world.bad_slots.add((2, 1))
    world.tell(Reload(7))
    assert world.slots() == dict.fromkeys(range(2), ("ready", 1))


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (3, 0), (0, 3), (1, 1)])
def test_a_reload_changes_the_number_of_workers(before: int, after: int) -> None:
    world = Puppet(service(workers=before))
    world.config = world.config._replace(services=(service(workers=after),))
    world.tell(Reload())
    assert world.slots() == dict.fromkeys(range(after), ("ready", 2))
    assert world.status()["state"] == "running"


def test_hups_in_a_storm_end_on_the_newest_code_with_one_generation_alive() -> None:
    world = Puppet(service(workers=2))
    world.slow_imports.add(2)
    for ticket in range(1, 11):
        world.tell(Reload(ticket))
    world.tell(Ready(world.zygote(2)))
    assert world.slots() == dict.fromkeys(range(2), ("ready", 3))
    assert [news.ticket for news in world.told("ended")] == list(range(1, 11))
    assert all(news.ok for news in world.told("ended"))


def test_a_refused_configuration_changes_nothing() -> None:
    world = Puppet(service())
    world.problems = ("services.yaml:1:1: services: expected a mapping",)
    world.take()
    world.tell(Reload(7))
    assert world.take() == [ReadConfig()]
    assert world.told("ended")[0][-3:] == (7, False, world.problems[0])


def test_the_runtime_directory_cannot_change_while_running() -> None:
    world = Puppet(service())
    world.config = world.config._replace(runtime_dir="/elsewhere")
    world.tell(Reload(7))
    assert "restart the launcher" in str(world.told("ended")[0].text)


def test_services_are_added_and_removed_by_a_reload() -> None:
    world = Puppet(service("old"), service())
    world.config = world.config._replace(services=(service(), service("new")))
    world.tell(Reload(7))
    names = [s["name"] for s in world.supervisor.snapshot(0)["services"]]
    assert names == ["shop", "new"]
    assert world.told("ended")[0].ok


def test_what_a_reload_adds_takes_its_addresses_before_what_it_removes_gives_them_up() -> None:
    world = Puppet(service("old"))
    world.config = world.config._replace(services=(service("new"),))
    world.take()
    world.tell(Reload())
    kinds = [type(step) for step in world.take()]
    assert kinds == [ReadConfig, StartZygote, Signal, Retire, Spawn]


def test_a_service_that_is_removed_and_added_again_while_it_drains() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    old = world.worker()
    full, world.config = world.config, world.config._replace(services=())
    world.tell(Reload(1))
    assert world.status()["state"] == "stopping"
    world.config = full
    world.tell(Reload(2))
    world.tell(Exited(old, 0, None))
    assert world.slots() == {0: ("ready", 3)}


def test_a_reload_of_one_service_leaves_the_others() -> None:
    world = Puppet(service(), service("other"))
    world.tell(Reload(7, "other"), Reload(8, "nosuch"))
    assert (world.slots(), world.slots("other")) == ({0: ("ready", 1)}, {0: ("ready", 2)})
    assert [news.ok for news in world.told("ended")] == [False, True]


def test_signal_mode_resets_in_place_unless_the_spec_changed() -> None:
    world = Puppet(service(reload="signal"))
    worker = world.worker()
    world.take()
    world.tell(Reload(7))
    assert world.take() == [ReadConfig(), Signal(worker, HUP)]
    world.config = world.config._replace(services=(service(reload="signal", workers=2),))
    world.tell(Reload(8))
    assert world.slots() == dict.fromkeys(range(2), ("ready", 3))


def test_restart_mode_stops_all_once_the_import_is_proven() -> None:
    world = Puppet(service(workers=2, reload="restart"))
    world.slow_imports.add(2)
    world.tell(Reload())
    assert world.slots() == dict.fromkeys(range(2), ("ready", 1))
    world.take()
    world.tell(Ready(world.zygote(2)))
    assert world.slots() == dict.fromkeys(range(2), ("ready", 2))


def test_restart_replaces_workers_by_the_same_zygote() -> None:
    world = Puppet(service(workers=2))
    ids = {world.worker(0), world.worker(1)}
    world.take()
    world.tell(Restart(7, "shop"))
    assert not ids & {world.worker(0), world.worker(1)}
    assert world.take(StartZygote) == []
    assert world.told("ended")[0][-3:] == (7, True, None)


def test_a_restart_that_fails_keeps_what_serves() -> None:
    world = Puppet(service(workers=2))
    ids = [world.worker(0), world.worker(1)]
    world.bad_slots |= {(1, 0)}
    world.tell(Restart(7))
    assert [world.worker(0), world.worker(1)] == ids
    assert world.told("ended")[0].ok is False


def test_a_stopped_service_stays_stopped_over_a_reload_until_it_is_restarted() -> None:
    world = Puppet(service(), service("other"))
    world.tell(Stop(1, "shop"))
    assert world.status()["state"] == "stopped"
    assert world.told("ended")[0][-3:] == (1, True, None)
    world.tell(Reload(2))
    assert world.slots() == {}
    world.tell(Restart(3, "shop"))
    assert world.slots() == {0: ("ready", 2)}
    assert all(news.ok for news in world.told("ended"))


def test_a_restart_while_the_service_still_stops() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    old = world.worker()
    world.tell(Stop(1, "shop"), Restart(2, "shop"))
    world.tell(Exited(old, 0, None))
    assert world.slots() == {0: ("ready", 1)}
    assert [news.ok for news in world.told("ended")] == [False, True]


def test_stop_drains_and_ends_with_nothing_alive() -> None:
    world = Puppet(service(workers=2), service("other"))
    world.take()
    world.tell(Stop())
    assert [command.signal for command in world.take(Signal)] == [TERM] * 3
    assert world.supervisor.done


def test_a_second_stop_is_quick_and_kills_what_does_not_heed() -> None:
    world = Puppet(service(kill_timeout=2))
    world.stubborn |= {TERM, QUIT}
    worker = world.worker()
    world.take()
    world.tell(Stop())
    world.tell(Stop())
    world.tell(Stop())
    assert not world.supervisor.done
    world.advance(2)
    assert [c for c in world.take() if isinstance(c, Signal)] == [Signal(worker, s) for s in (TERM, QUIT, KILL)]
    assert world.supervisor.done


def test_stop_during_a_start_and_an_import() -> None:
    world = Puppet(service(kill_timeout=2))
    world.slow_imports.add(2)
    world.unborn.add(1)
    world.tell(Reload(1), Exited(world.worker(), None, 11))
    world.advance(0.1)
    unborn = world.worker()
    world.tell(Stop())
    assert not world.supervisor.done
    world.tell(Started(unborn, 99))
    assert world.supervisor.done


def test_a_worker_that_never_announces_itself_does_not_hold_up_a_stop() -> None:
    world = Puppet(service(kill_timeout=2))
    world.unborn.add(1)
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    world.tell(Stop())
    world.advance(2)
    assert world.supervisor.done


def test_requests_while_stopping_are_refused() -> None:
    world = Puppet(service())
    world.stubborn.add(TERM)
    world.tell(Reload(1), run=False)
    world.tell(Stop(2), Reload(3), Restart(4), Stop(5, "shop"))
    ended = {news.ticket: (news.ok, news.text) for news in world.told("ended")}
    assert ended == dict.fromkeys((1, 3, 4, 5), (False, "the launcher is stopping"))


def test_a_configuration_that_nobody_asked_for_is_ignored() -> None:
    world = Puppet(service())
    world.tell(ConfigRead(world.config._replace(services=())), ConfigRefused(("x",)))
    assert world.slots() == {0: ("ready", 1)}


def test_an_unknown_service_is_named_with_those_there_are() -> None:
    world = Puppet(service())
    world.tell(Restart(1, "ship"), Stop(2, "ship"))
    assert world.told("ended")[0].text == "no service is named 'ship'; there are: shop"
    assert world.told("ended")[1].ok is False


def test_facts_about_the_dead_and_doubled_facts_change_nothing() -> None:
    world = Puppet(service())
    worker = world.worker()
    before = json.dumps(world.status())
    world.tell(Started(worker, 5), Ready(worker), Ready(999), Exited(999, 0, None), Draining(world.zygote(1)))
    assert json.dumps(world.status()) == before


def test_a_machine_that_slept_gets_the_time_back() -> None:
    world = Puppet(service(start_timeout=5))
    world.silent_slots.add((1, 0))
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    world.take()
    assert world.supervisor.deadline() is not None
    world.now += 3600
    world.run()
    assert world.take() == []
    world.tell(Ready(world.worker()))
    assert world.status()["state"] == "running"


def test_a_worker_told_to_stop_before_it_is_ready_fails_the_start() -> None:
    world = Puppet(service())
    world.silent_slots.add((2, 0))
    world.tell(Reload(7))
    young = world.worker()
    world.tell(Draining(young), Exited(young, 0, None))
    assert world.told("ended")[0].ok is False
    assert world.slots() == {0: ("ready", 1)}


@pytest.mark.parametrize(
    ("code", "signal", "reason"),
    [
        (3, None, "exited with code 3"),
        (0, None, "exited with code 0"),
        (None, 11, "died of SIGSEGV"),
        (None, 40, "died of signal 40"),
        (None, None, "lost before it announced itself"),
    ],
)
def test_every_end_has_its_reason(code: int | None, signal: int | None, reason: str) -> None:
    world = Puppet(service())
    world.tell(Exited(world.worker(), code, signal))
    assert world.told("exited")[0].text == reason
    world.advance(1)
    last = world.status()["workers"][0]["last_exit"]
    assert (last["code"], last["reason"]) == (code, reason)
    assert last["signal"] in {None, SIGNALS.get(signal or 0, f"signal {signal}")}


def test_last_words_are_the_reason() -> None:
    world = Puppet(service())
    worker = world.worker()
    world.tell(Failed(worker, "MemoryError"), Exited(worker, 1, None))
    assert world.told("exited")[0].text == "MemoryError"


@pytest.mark.parametrize(
    ("exited", "reason"),
    [((0, None), "drained after a signal from outside"), ((None, 9), "while draining, died of SIGKILL")],
)
def test_the_end_of_a_drain_is_told_apart(exited: tuple[int | None, int | None], reason: str) -> None:
    world = Puppet(service())
    worker = world.worker()
    world.tell(Draining(worker), Exited(worker, *exited))
    assert world.told("exited")[0].text == reason
    world.stubborn.add(TERM)
    world.advance(1)
    worker = world.worker()
    world.tell(Stop())
    world.tell(Exited(worker, None, 9))
    assert world.told("exited")[-1].text == "stopped by the launcher, died of SIGKILL"


def test_a_stopped_service_that_leaves_the_configuration_is_forgotten() -> None:
    world = Puppet(service(), service("other"))
    world.tell(Stop(1, "shop"))
    world.config = world.config._replace(services=(service("other"),))
    world.tell(Reload(2))
    assert [s["name"] for s in world.supervisor.snapshot(0)["services"]] == ["other"]
    assert world.told("ended")[1].ok


def test_what_was_observed_is_planned_for_at_once() -> None:
    world = Puppet(service())
    world.tell(Exited(world.worker(), None, 11), run=False)
    assert world.supervisor.deadline() == world.now


def test_an_old_zygote_that_dies_and_fails_anew_during_a_roll_does_not_end_the_roll() -> None:
    world = Puppet(service())
    world.slow_imports.add(2)
    world.bad_imports.add(1)
    world.tell(Reload(7))
    world.tell(Exited(world.zygote(1), None, 9))
    world.advance(1)
    world.tell(Ready(world.zygote(2)))
    assert world.slots() == {0: ("ready", 2)}
    assert world.told("ended")[0].ok


def test_the_launcher_says_what_it_is_doing() -> None:
    def state() -> str:
        return str(world.supervisor.snapshot(world.now)["forkd"]["state"])

    world = Puppet(service())
    assert state() == "running"
    world.slow_imports.add(2)
    world.tell(Reload())
    assert state() == "reloading"
    world.stubborn.add(TERM)
    world.tell(Stop())
    assert state() == "stopping"


def test_an_old_worker_that_cannot_start_during_a_roll_is_no_fault_of_the_new_code() -> None:
    world = Puppet(service())
    world.slow_imports.add(2)
    world.tell(Reload(7))
    world.bad_slots.add((1, 0))
    world.tell(Exited(world.worker(), None, 11))
    world.advance(0.1)
    assert world.told("rolled_back") == []
    world.tell(Ready(world.zygote(2)))
    world.advance(0.2)
    assert world.slots() == {0: ("ready", 2)}


def test_a_zygote_is_not_told_to_fork_more_than_it_can_hear() -> None:
    world = Puppet(service(workers=0))
    world.unborn.add(2)
    world.config = world.config._replace(services=(service(workers=200),))
    world.take()
    world.tell(Reload())
    assert len(world.take(Spawn)) == STARTS_AT_ONCE
    world.tell(Started(world.worker(0), 99))
    assert len(world.take(Spawn)) == 1
