"""Stacks that somebody asked for: who does not show them is made to dump them, then looked at."""

from __future__ import annotations

import pytest

from forkd.core.commands import ABRT, DUMP, KILL, STACKS, TERM, Look, Signal
from forkd.core.events import Exited, Seen, SignalWorkers, Stop
from forkd.core.stacks import ANSWER, DUMPED
from tests.core.puppet import Puppet, service


def ask(world: Puppet) -> int:
    """Ask the worker of the shop for its stacks; return its id."""
    world.take()
    world.tell(SignalWorkers(1, "shop", None, STACKS))
    worker = world.worker()
    assert world.take() == [Signal(worker, STACKS)]
    return worker


def test_who_answers_is_told_of_and_left_alone():
    world = Puppet(service())
    worker = ask(world)
    world.advance(ANSWER - 0.1)
    world.tell(Seen(worker, world.now, "File …"))
    assert [(news.slot, news.text) for news in world.told("stacks")] == [(0, "File …")]
    assert world.supervisor.deadline() is None
    assert world.take() == []


def test_who_does_not_answer_is_made_to_dump_and_then_looked_at():
    world = Puppet(service())
    worker = ask(world)
    world.dumped[worker] = "File …"
    world.advance(ANSWER)
    assert world.take() == [Signal(worker, DUMP)]
    assert world.told("stacks") == []
    world.advance(DUMPED)
    assert world.take() == [Look(worker)]
    assert [news.text for news in world.told("stacks")] == ["File …"]
    assert world.supervisor.deadline() is None
    assert ask(world) == worker
    world.advance(ANSWER)
    assert world.take() == [Signal(worker, DUMP)]


def test_who_dumps_nothing_is_given_up():
    world = Puppet(service())
    worker = ask(world)
    world.advance(100)
    assert world.take() == [Signal(worker, DUMP), Look(worker)]
    assert world.told("stacks") == []
    assert world.supervisor.deadline() is None


def test_who_answers_after_all_is_not_looked_at():
    world = Puppet(service())
    worker = ask(world)
    world.advance(ANSWER)
    world.tell(Seen(worker, world.now, "File …"))
    world.advance(100)
    assert world.take() == [Signal(worker, DUMP)]


def test_who_is_asked_again_meanwhile_is_made_to_dump_once():
    world = Puppet(service())
    worker = ask(world)
    world.advance(ANSWER - 0.1)
    assert ask(world) == worker
    world.advance(0.1)
    assert world.take() == [Signal(worker, DUMP)]
    assert ask(world) == worker
    world.advance(100)
    assert world.take() == [Look(worker)]


def test_a_sign_of_life_is_no_answer():
    world = Puppet(service(hang_timeout=1.0))
    worker = ask(world)
    world.advance(ANSWER)
    assert world.take(Signal) == [Signal(worker, DUMP)]


def test_a_machine_that_slept_gives_everyone_the_time_to_answer():
    world = Puppet(service())
    worker = ask(world)
    world.advance(1)
    world.now += 10_000
    world.run()
    world.advance(ANSWER - 1.1)
    assert world.take() == []
    world.advance(0.1)
    assert world.take() == [Signal(worker, DUMP)]


def test_who_stops_is_made_to_as_well():
    world = Puppet(service(stop_timeout=60.0))
    world.stubborn.add(TERM)
    worker = ask(world)
    world.tell(Stop(2, "shop"))
    world.take()
    world.advance(ANSWER)
    assert world.take() == [Signal(worker, DUMP)]


@pytest.mark.parametrize("stop_timeout", [1.0, ANSWER + DUMPED / 2])
def test_of_who_is_aborted_they_come_with_its_end(stop_timeout):
    world = Puppet(service(stop_timeout=stop_timeout, kill_timeout=60.0))
    world.stubborn |= {TERM, ABRT}
    worker = ask(world)
    world.tell(Stop(2, "shop"))
    world.take()
    world.advance(30)
    dumps = [Signal(worker, DUMP)] if stop_timeout > ANSWER else []
    assert world.take() == [*dumps, Signal(worker, ABRT)]
    world.tell(Exited(worker, None, ABRT, stacks="File …"))
    assert [news.stacks for news in world.told("exited") if news.slot == 0] == ["File …"]


def test_who_was_killed_is_asked_for_nothing():
    world = Puppet(service(stop_timeout=0.0, kill_timeout=0.0))
    world.stubborn |= {TERM, ABRT, KILL}
    worker = ask(world)
    world.tell(Stop(2, "shop"))
    assert world.take(Signal) == [Signal(worker, number) for number in (TERM, ABRT, KILL)]
    world.advance(100)
    assert world.take() == []


def test_who_is_dead_is_not_waited_for():
    world = Puppet(service())
    worker = ask(world)
    world.tell(Exited(worker, None, KILL))
    world.advance(100)
    assert world.take(Signal) == []
