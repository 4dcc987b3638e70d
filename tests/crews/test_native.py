"""The crew of native threads: who is served, who waits, who is refused."""

from __future__ import annotations

import queue
import threading

import pytest

from forkd import threadgroup
from forkd.crews import crews_of
from tests.waiting import until

PATIENCE = 30.0  # seconds


class Work:
    """A crew whose items wait for the gate, all but the numbers; `begun` tells which have begun."""

    def __init__(self, limit, most_waiting=None):
        self.group = threadgroup.create("threads", limit)
        self.crew = crews_of("threads")(self.group, self._serve, most_waiting)
        self.begun: queue.SimpleQueue = queue.SimpleQueue()
        self.gate = threading.Event()

    def _serve(self, item):
        self.begun.put(item)
        if not isinstance(item, int):
            assert self.gate.wait(PATIENCE)

    def submit(self, *items):
        return [self.crew.submit(item) for item in items]

    def next(self):
        return self.begun.get(timeout=PATIENCE)

    def end(self):
        self.gate.set()
        self.crew.dismiss()
        assert self.group.wait(PATIENCE)


@pytest.fixture
def work_of():
    made = []

    def work_of(*args, **keys):
        made.append(Work(*args, **keys))
        return made[-1]

    yield work_of
    for work in made:
        work.end()


@pytest.mark.parametrize("most_waiting", [0, 2])
def test_beyond_those_that_may_wait_items_are_refused(work_of, most_waiting):
    work = work_of(1, most_waiting)
    assert work.submit("a") == [True]
    assert work.next() == "a"
    assert work.submit(*"bcd") == [True] * most_waiting + [False] * (3 - most_waiting)
    assert work.crew.waiting == most_waiting
    work.gate.set()
    assert [work.next() for _ in range(most_waiting)] == [*"bcd"][:most_waiting]


def test_without_a_bound_all_wait(work_of):
    work = work_of(1)
    assert work.submit(*"abc") == [True] * 3
    work.gate.set()
    assert sorted(work.next() for _ in range(3)) == [*"abc"]


def test_an_urgent_item_goes_first(work_of):
    work = work_of(1)
    work.submit("a")
    assert work.next() == "a"
    work.submit("b")
    assert work.crew.submit("c", urgent=True)
    work.gate.set()
    assert [work.next(), work.next()] == ["c", "b"]


def test_nothing_waits_where_others_have_all_threads(work_of):
    work = work_of(1, 5)
    taken = work.group.slots
    assert taken.acquire(blocking=False)
    assert work.submit("a") == [False], "nobody would ever fetch it"
    taken.release()
    assert work.submit("a") == [True]
    assert work.next() == "a"


def test_what_waits_is_fetched_when_others_give_their_threads_back(work_of):
    work = work_of(1)
    assert work.group.slots.acquire(blocking=False)
    assert work.submit(1) == [True]
    work.group.slots.release()
    work.crew.nudge()
    assert work.next() == 1


def test_what_waits_can_be_withdrawn(work_of):
    work = work_of(1, 5)
    work.submit("a")
    assert work.next() == "a"
    work.submit(*"bcd")
    assert list(work.crew.withdraw(lambda item: item != "c")) == ["b", "d"]
    work.crew.dismiss()
    work.gate.set()
    assert work.next() == "c"
    until(lambda: work.crew.members == 0, what="no thread waits for more")


def test_a_thread_that_waits_is_given_the_next_item(work_of):
    work = work_of(4)
    for number in range(20):
        work.submit(number)
        assert work.next() == number
        until(lambda: len(work.crew._parked) == work.crew.members, what="it waits for work")
    assert work.crew.members <= 2


def test_a_reader_that_has_not_begun_can_be_stopped(work_of):
    stopper = threading.Thread(target=work_of(1).crew.reader().stop, daemon=True)
    stopper.start()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
