"""Workers that are replaced though they live: those that hang, are not healthy, have done enough, are too old."""

from __future__ import annotations

import pytest

from forkd.core.commands import ABRT, KILL, STACKS, TERM, Look, Signal
from forkd.core.events import Draining, Exited, Health, Ready, Recycle, Reload, Seen, Stop
from forkd.core.spec import RecycleSpec, RestartSpec
from tests.core.puppet import Puppet, service


def hang(world: Puppet, slot: int = 0) -> int:
    """Let a worker be silent from now on; return its id."""
    worker = world.worker(slot)
    world.hung_since[worker] = world.now
    return worker


# --- hangs -----------------------------------------------------------------------------------------------------------


def test_all_are_looked_at_at_once_and_only_when_a_heartbeat_may_be_missing():
    world = Puppet(service(workers=3, hang_timeout=30.0))
    world.take()
    world.advance(29.9)
    assert world.take() == []
    world.advance(0.2)
    assert world.take() == [Look(world.worker(slot)) for slot in range(3)]
    assert world.supervisor.deadline() == 60.0


def test_nobody_is_looked_at_where_it_is_off():
    world = Puppet(service(hang_timeout=0.0))
    assert world.supervisor.deadline() is None


def test_a_worker_that_hangs_is_asked_for_its_stacks_replaced_at_once_and_then_killed():
    world = Puppet(service(workers=2, hang_timeout=30.0, kill_timeout=2.0))
    world.stubborn |= {STACKS, TERM, ABRT}
    world.advance(20)
    hung = hang(world)
    world.take()
    world.advance(31)
    assert [c for c in world.take() if isinstance(c, Signal)] == [Signal(hung, STACKS), Signal(hung, TERM)]
    assert world.slots() == {0: ("ready", 1), 1: ("ready", 1)}
    assert world.told("hung")[0].text == "hung: no heartbeat for 30 s"
    world.advance(2)
    assert world.take(Signal) == [Signal(hung, ABRT)]
    world.advance(2)
    assert world.take(Signal) == [Signal(hung, KILL)]
    exit = world.status()["workers"][0]["last_exit"]
    assert (exit["signal"], exit["reason"]) == ("SIGKILL", "hung: no heartbeat for 30 s")
    assert [news.ok for news in world.told("exited")] == [False]
    assert world.status()["restarts"] == 1


def test_one_that_comes_back_drains():
    world = Puppet(service(hang_timeout=30.0))
    hung = hang(world)
    world.stubborn.add(TERM)
    world.advance(31)
    assert world.slots() == {0: ("ready", 1)}
    world.tell(Draining(hung), Exited(hung, 0, None))
    assert world.status()["workers"][0]["last_exit"]["reason"] == "hung: no heartbeat for 30 s"
    assert world.slots() == {0: ("ready", 1)}


def test_one_that_beats_again_at_the_second_look_is_let_be():
    world = Puppet(service(hang_timeout=30.0))
    worker = hang(world)
    world.advance(30)
    del world.hung_since[worker]
    world.take()
    world.advance(1)
    assert world.take() == [Look(worker)]
    assert world.told("hung") == []
    world.advance(40)
    assert world.slots() == {0: ("ready", 1)}


def test_a_machine_that_slept_kills_nobody():
    world = Puppet(service(hang_timeout=30.0))
    worker = hang(world)
    world.advance(29)
    world.now += 10_000
    world.run()
    assert world.told("hung") == []
    world.advance(29)
    assert world.told("hung") == []
    del world.hung_since[worker]
    world.advance(100)
    assert world.told("hung") == []


def test_what_stood_still_between_two_looks_is_looked_at_anew():
    world = Puppet(service(hang_timeout=30.0))
    hang(world)
    world.advance(30.5)
    world.now += 10
    world.run()
    world.advance(29)
    assert world.told("hung") == []
    world.advance(2)
    assert len(world.told("hung")) == 1


def test_who_stops_is_not_looked_at():
    world = Puppet(service(hang_timeout=5.0, stop_timeout=60.0))
    world.stubborn.add(TERM)
    hang(world)
    world.tell(Stop(1, "shop"))
    world.take()
    world.advance(50)
    assert world.take() == []


def test_a_heartbeat_that_comes_late_tells_nothing():
    world = Puppet(service(hang_timeout=5.0))
    world.tell(Seen(world.zygote(1), 0.0))
    hung = hang(world)
    world.advance(6)
    world.tell(Seen(hung, 0.0), Seen(hung, 0.0))
    assert len(world.told("hung")) == 1


def test_a_heartbeat_that_lies_in_the_future_is_none():
    world = Puppet(service(hang_timeout=5.0))
    world.hung_since[world.worker()] = 1e10
    world.advance(4)
    assert world.told("hung") == []
    world.advance(3)
    assert len(world.told("hung")) == 1


@pytest.mark.parametrize(("policy", "slots"), [("on-failure", {0: ("ready", 1)}), ("never", {})])
def test_a_hang_is_a_failure_for_the_restart_policy(policy, slots):
    world = Puppet(service(hang_timeout=30.0, restart=RestartSpec(policy=policy)))
    world.advance(20)
    hung = hang(world)
    world.stubborn.add(TERM)
    world.advance(31)
    world.tell(Exited(hung, 0, None))
    world.advance(1)
    assert world.slots() == slots


def test_stacks_that_it_left_are_told_with_its_end():
    world = Puppet(service(hang_timeout=30.0))
    world.tell(Exited(world.worker(), None, ABRT, core=True, stacks="File 2"))
    assert world.told("exited")[0].stacks == "File 2"
    assert world.told("exited")[0].text == "died of SIGABRT and left a core file"


def test_who_was_killed_for_want_of_memory_is_told_so():
    world = Puppet(service())
    world.tell(Exited(world.worker(), None, KILL, oom=True))
    assert world.told("exited")[0].text == "killed by the kernel, which was out of memory"


# --- recycling and health --------------------------------------------------------------------------------------------


def test_who_has_done_enough_serves_until_its_successor_is_ready():
    world = Puppet(service(workers=2))
    old = world.worker(0)
    world.silent_slots.add((1, 0))
    world.tell(Recycle(old, "served 10 requests"), Recycle(old, "served 11 requests"))
    assert [(w["id"], w["phase"]) for w in world.status()["workers"] if w["slot"] == 0] == [
        (old, "ready"),
        (world.worker(0), "starting"),
    ]
    assert world.status()["state"] == "running"
    world.tell(Ready(world.worker(0)))
    assert world.slots() == {0: ("ready", 1), 1: ("ready", 1)}
    assert world.status()["workers"][0]["last_exit"]["reason"] == "recycled: served 10 requests"
    assert [news.text for news in world.told("recycling")] == ["served 10 requests"]
    assert world.status()["restarts"] == 0


@pytest.mark.parametrize("surge", [1, 2])
def test_at_most_surge_are_recycled_at_once(surge):
    world = Puppet(service(workers=4, surge=surge))
    world.silent_slots |= {(1, slot) for slot in range(4)}
    olds = [world.worker(slot) for slot in range(4)]
    world.tell(*(Recycle(old, "served 10 requests") for old in olds))
    starting = [w["id"] for w in world.status()["workers"] if w["phase"] == "starting"]
    assert len(starting) == surge
    world.tell(Ready(starting[0]))
    assert len([w for w in world.status()["workers"] if w["phase"] == "starting"]) == surge


def test_a_successor_that_fails_leaves_the_old_one_serving():
    world = Puppet(service())
    old = world.worker()
    world.bad_slots.add((1, 0))
    world.tell(Recycle(old, "served 10 requests"))
    world.advance(1)
    assert [w["id"] for w in world.status()["workers"]] == [old]
    assert world.status()["state"] == "degraded"
    world.bad_slots.clear()
    world.advance(10)
    assert world.worker() != old


def test_a_roll_and_a_recycling_end_together():
    world = Puppet(service(workers=2))
    world.tell(Recycle(world.worker(0), "served 10 requests"), Reload(1))
    assert world.slots() == {0: ("ready", 2), 1: ("ready", 2)}
    assert world.told("ended")[0].ok


def test_who_starts_or_stops_is_not_recycled():
    world = Puppet(service())
    world.stubborn.add(TERM)
    world.tell(Draining(world.worker()), Recycle(world.worker(), "late"), Recycle(world.zygote(1), "never"))
    assert world.told("recycling") == []


def test_a_worker_that_dies_before_its_successor_is_there_counts():
    world = Puppet(service())
    world.silent_slots.add((1, 0))
    old = world.worker()
    world.tell(Recycle(old, "served 10 requests"), Exited(old, None, 11))
    assert world.status()["restarts"] == 1


def test_workers_of_one_age_do_not_all_go_at_once():
    world = Puppet(service(workers=4, recycle=RecycleSpec(age=1000.0, jitter=0.1)))
    olds = [world.worker(slot) for slot in range(4)]
    world.advance(899)
    assert world.told("recycling") == []
    gone = []
    for _ in range(102):
        world.advance(1)
        gone.append(sum(world.worker(slot) != olds[slot] for slot in range(4)))
    assert gone[-1] == 4
    assert len(set(gone)) == 5
    assert all(0 < int(str(news.text).split()[0]) <= 1000 for news in world.told("recycling"))


def test_an_unhealthy_worker_is_drained_and_replaced_after_its_backoff():
    world = Puppet(service(workers=2))
    old = world.worker(0)
    world.tell(Health(old, 1, text="500 Internal Server Error"))
    assert world.status()["workers"][0]["health"] == {"ok": False, "failures": 1, "text": "500 Internal Server Error"}
    assert world.status()["workers"][1]["health"] is None
    world.tell(Health(old, 3, unhealthy=True, text="500 Internal Server Error"))
    assert world.worker(0) == old
    world.advance(0.1)
    assert world.worker(0) != old
    assert world.status()["workers"][0]["last_exit"]["reason"] == "unhealthy: 500 Internal Server Error"
    assert (world.status()["restarts"], len(world.told("unhealthy"))) == (1, 1)


def test_a_healthy_worker_is_shown_so():
    world = Puppet(service())
    world.tell(Health(world.worker(), 0))
    assert world.status()["workers"][0]["health"] == {"ok": True, "failures": 0, "text": ""}


def test_the_last_exits_of_a_slot_are_shown_in_detail():
    world = Puppet(service())
    for code in range(12):
        world.tell(Exited(world.worker(), code, None))
        world.advance(31)
    (slot,) = world.status()["slots"]
    assert (slot["slot"], slot["restarts"]) == (0, 12)
    assert [end["code"] for end in slot["exits"]] == list(range(2, 12))
    assert "slots" not in world.supervisor.snapshot(world.now)["services"][0]
