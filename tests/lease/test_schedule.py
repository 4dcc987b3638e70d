"""The schedule that all workers share, in virtual time: each tick once, on time, by whoever is there, whatever comes."""

from __future__ import annotations

import heapq
import random
from types import SimpleNamespace
from typing import Any

import pytest

from forkd.lease import claim as claim_module
from forkd.lease import tenure as tenure_module
from forkd.lease.backend import Standing, Taken, Unreachable
from forkd.lease.claim import Claim
from forkd.lease.contact import Contact
from forkd.lease.schedule import LeasedSchedule
from forkd.threadgroup.cron import CronSchedule
from forkd.threadgroup.schedules import Clock, FixedSchedule

EPOCH = 1_700_000_000.0  # of the backend's clock; a whole minute and 20 s
TTL = 10.0


class World:
    """Virtual time, and a backend in it; `fails` says which questions get no answer, and whether they were heard."""

    def __init__(self, fails=lambda _question: None) -> None:
        self.now = 5000.0  # on the clock of deadlines
        self.fails = fails
        self.row: Any = None
        self.until = 0.0
        self.ticks: list[float] = []
        self.taker: Memory | None = None

    def backend(self) -> Memory:
        return Memory(self)


class Memory:
    """As `forkd.lease.backend.Backend`, for one task."""

    def __init__(self, world: World) -> None:
        self.world = world

    def look(self, task, *, begin):
        return self._asked("look", lambda: self._standing(begin=begin))

    def take(self, task, token, tick, holder):
        def take():
            world, standing = self.world, self._standing(begin=False)
            if world.taker is self and standing.token == token + 1 and standing.ended is None:
                world.until = self._now() + TTL
                return Taken(True, self._standing(begin=False))
            if standing.token != token or standing.left > 0:
                return Taken(False, standing)
            world.row, world.until, world.taker = (token + 1, round(tick, 3), None), self._now() + TTL, self
            world.ticks.append(round(tick, 3))
            return Taken(True, self._standing(begin=False))

        return self._asked("take", take)

    def renew(self, task, token):
        raise AssertionError("no run lasts that long here")

    def finish(self, task, token, outcome, ended):
        def finish():
            if self.world.row[0] == token:
                self.world.row, self.world.until = (*self.world.row[:2], round(min(ended, self._now()), 3)), 0.0

        return self._asked("finish", finish) or True

    def close(self):
        pass

    def _now(self):
        return round(self.world.now - 5000 + EPOCH, 3)

    def _asked(self, question, answer):
        fate = self.world.fails(question)
        if fate != "deaf":
            answer = answer()
        if fate:
            raise Unreachable("no answer")
        return answer

    def _standing(self, *, begin):
        if self.world.row is None:
            self.world.row = (100, self._now(), self._now()) if begin else (100, None, None)
        token, tick, ended = self.world.row
        return Standing(token, tick, ended, max(0.0, round(self.world.until - self._now(), 3)), self._now())


class Worker:
    """A timer's loop, of which each turn is an event."""

    def __init__(self, world, grid, *, immediately=False, jitter=0.0, lasts=lambda: 0.0) -> None:
        self.world, self.lasts = world, lasts
        contact: Any = Contact.__new__(Contact)
        contact.address = SimpleNamespace(ttl=TTL, shown="memory", secret=lambda: None)
        contact.backend, contact._lost, contact._users = world.backend(), None, 0
        contact._lock = _Lock()
        claim: Any = Claim(contact, "shop.task", "host/shop/0/1")
        claim._deadline.close()
        claim._deadline = SimpleNamespace(set=lambda *_: None, clear=lambda: None, close=lambda: None)
        self.claim = claim
        self.schedule = LeasedSchedule(grid, self.claim, run_immediately=immediately, jitter=jitter)
        self.schedule.clock = Clock(lambda: world.now, 60.0)
        self.due = self.schedule.first(world.now)
        self.runs: list[float] = []
        self.begun: float | None = None
        self.dead = False

    def turn(self) -> float | None:
        """Do what the timer does now; return when its next turn is."""
        if self.dead:
            return None
        if self.begun is not None:
            self._end()
        self.due = self.schedule.confirm(self.due, self.world.now)
        if self.due > self.world.now:
            return min(self.due, self.world.now + 60.0)
        assert self.claim.held
        self.runs.append(self.world.now)
        self.begun = self.world.now
        return self.world.now + self.lasts()

    def _end(self):
        self.begun = None
        self.claim._finish("ok")
        self.due = self.schedule.following(self.due, self.world.now, None).due


class _Lock:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


@pytest.fixture
def world(monkeypatch):
    world = World()
    for module in (claim_module, tenure_module):
        monkeypatch.setattr(module, "now", lambda: world.now)
    monkeypatch.setattr("forkd.lease.contact.now", lambda: world.now)
    return world


def go_on(world, workers, seconds, draw=None, late=0.0):
    """Let time pass; a turn comes `late` by as much at most."""
    ends = world.now + seconds
    turns = [(world.now, number) for number in range(len(workers))]
    heapq.heapify(turns)
    count = 0
    while turns and turns[0][0] <= ends:
        at, number = heapq.heappop(turns)
        world.now = max(world.now, at)
        due = workers[number].turn()
        count += 1
        assert count < 100 * (seconds + 10) * len(workers), "a busy loop"
        if due is not None:
            heapq.heappush(turns, (max(due, world.now) + (draw.uniform(0, late) if draw else 0.0), number))
    world.now = ends


def began(workers):
    return sorted(run for worker in workers for run in worker.runs)


def test_each_tick_is_called_for_once_and_never_drifts(world):
    workers = [Worker(world, FixedSchedule(1.0, 1.0)) for _ in range(5)]
    go_on(world, workers, 100.5, random.Random(3), late=0.01)
    assert world.ticks == [EPOCH + tick for tick in range(1, 101)]
    assert all(-0.001 < at - 5000 - tick < 0.03 for tick, at in enumerate(began(workers), 1))


def test_the_first_comes_at_once_for_all_if_asked_for(world):
    workers = [Worker(world, FixedSchedule(60.0, 0.0), immediately=True) for _ in range(5)]
    go_on(world, workers, 130)
    assert [at - 5000 for at in began(workers)] == pytest.approx([0, 60, 120], abs=0.01)


def test_what_passes_during_a_run_is_skipped_and_what_nobody_called_for_is_due_at_once(world):
    workers = [Worker(world, FixedSchedule(1.0, 1.0), lasts=lambda: 2.5) for _ in range(3)]
    go_on(world, workers, 12)
    assert [tick - EPOCH for tick in world.ticks] == [1, 4, 7, 10]
    for worker in workers:
        worker.dead = True
    world.now += 1000.5
    go_on(world, [Worker(world, FixedSchedule(1.0, 1.0))], 3)
    assert world.ticks[4] - EPOCH == 11, "the tick after the last one, if it had ended"
    assert [tick - EPOCH for tick in world.ticks[5:]] == [1013, 1014, 1015]


def test_who_dies_in_a_run_is_followed_when_its_lease_is_over(world):
    workers = [Worker(world, FixedSchedule(1.0, 1.0), lasts=lambda: 5.0) for _ in range(3)]
    go_on(world, workers, 2)
    (dead,) = [worker for worker in workers if worker.begun is not None]
    dead.dead = True
    go_on(world, workers, 20)
    first, second, *_ = began(workers)
    assert second - first == pytest.approx(TTL, abs=0.01)


def test_questions_without_an_answer_double_nothing_and_leave_nothing_out(world):
    draw = random.Random(5)

    def fate(_question):
        return draw.choice(["deaf", "heard"]) if draw.random() < 0.3 else None

    world.fails = fate
    workers = [Worker(world, FixedSchedule(5.0, 5.0)) for _ in range(4)]
    go_on(world, workers, 2000, draw, late=0.01)
    assert len(set(world.ticks)) == len(world.ticks)
    assert world.ticks == sorted(world.ticks)
    assert len(began(workers)) == len(world.ticks), "whoever was given a run, and did not hear it, asked once more"
    assert len(world.ticks) > 250


def test_jitter_is_drawn_once_for_all(world):
    workers = [Worker(world, FixedSchedule(10.0, 10.0), jitter=5.0) for _ in range(5)]
    go_on(world, workers, 1000.5)
    assert world.ticks == [EPOCH + 10 * number for number in range(1, len(world.ticks) + 1)]
    late = [at - 5000 - 10 * number for number, at in enumerate(began(workers), 1)]
    assert all(-0.001 <= each <= 5.01 for each in late)
    assert max(late) > 4
    assert sum(late) / len(late) == pytest.approx(2.5, abs=0.5)


def test_cron_goes_by_the_backends_clock(world, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    workers = [Worker(world, CronSchedule("*/2 * * * *")) for _ in range(4)]
    go_on(world, workers, 600, random.Random(1), late=0.01)
    assert world.ticks == [EPOCH - EPOCH % 120 + 120 * number for number in range(1, 6)]
