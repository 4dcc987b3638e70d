"""The lane of the native engine: who is quick is served by the loop's thread, and who is not costs the others nothing."""

from __future__ import annotations

import builtins
import io
import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from forkd import threadgroup
from forkd.crews.lane import Lane
from forkd.errors import ForkdError
from tests.waiting import until


class Loop:
    """What the lane has of a loop: this thread, until it is replaced."""

    def __init__(self, serve, replaced=None, limit=4):
        self.group = threadgroup.create("threads", limit)
        self.lane = Lane(self.group, serve)
        self.diverted: deque[Any] = deque()
        self.replaced = replaced or threading.Event()
        self.refusals = []
        self.lane.start(self.diverted.append, self._replace)

    def _replace(self):
        if self.refusals:
            raise self.refusals.pop()
        self.replaced.set()

    def admit(self, count):
        conns: list[Any] = [SimpleNamespace(number=number) for number in range(count)]
        return [self.lane.admit(conn) for conn in conns]

    @property
    def free_slots(self):
        taken = 0
        while self.group.slots.acquire(blocking=False):
            taken += 1
        for _ in range(taken):
            self.group.slots.release()
        return taken


@pytest.fixture
def loop_of():
    made = []

    def loop_of(*args, **keys):
        made.append(Loop(*args, **keys))
        return made[-1]

    yield loop_of
    for loop in made:
        loop.group.stop()
        assert loop.group.wait(10)


def test_who_is_quick_is_served_here_and_in_order(loop_of):
    served = []
    loop = loop_of(lambda conn: served.append((conn.number, threading.get_ident())))
    assert loop.admit(3) == [True] * 3
    assert loop.free_slots == 3
    assert loop.lane.serve()
    assert served == [(number, threading.get_ident()) for number in range(3)]
    assert loop.free_slots == 4
    assert not loop.diverted
    assert loop.lane.serve(), "with nobody to serve"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_one_that_fails_harms_no_other_and_keeps_the_loop(loop_of, caplog, error):
    served = []

    def serve(conn):
        served.append(conn.number)
        if not conn.number:
            raise error

    loop = loop_of(serve)
    loop.admit(3)
    assert loop.lane.serve()
    assert served == [0, 1, 2]
    assert "an item failed" in caplog.text


def test_one_that_takes_long_loses_the_loop_and_the_others_go_elsewhere(loop_of):
    gate = threading.Event()
    loop = loop_of(lambda _: gate.wait(30))
    loop.admit(3)
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(loop.lane.serve()))
    thread.start()
    assert loop.replaced.wait(30)
    until(lambda: [conn.number for conn in loop.diverted] == [1, 2], what="the others elsewhere")
    assert loop.admit(1) == [False], "closed for a while"
    assert loop.free_slots == 3
    gate.set()
    thread.join(30)
    assert outcome == [False]
    assert loop.free_slots == 4


def test_one_that_computes_and_computes_loses_the_loop(loop_of):
    replaced = threading.Event()

    def compute(_):
        while not replaced.is_set():
            pass

    loop = loop_of(compute, replaced)
    loop.admit(1)
    assert not loop.lane.serve()


def test_one_that_only_wants_a_processor_keeps_it_however_long_that_takes(loop_of, monkeypatch):
    replaced = threading.Event()
    looks: list[bool] = []

    def opened(*args):
        """As the kernel tells of a thread that is in want of a processor, until the last look: it has ended."""
        if not str(args[0]).startswith("/proc/self/task/"):
            return really(*args)
        looks.append(replaced.is_set())
        if len(looks) == 50:
            raise FileNotFoundError
        return io.StringIO(f"1 (python) R {'7 ' * 50}")

    really = builtins.open
    monkeypatch.setattr("builtins.open", opened)
    loop = loop_of(lambda _: replaced.wait(30), replaced)
    loop.admit(1)
    assert not loop.lane.serve()
    assert len(looks) == 50
    assert not any(looks)


def test_it_opens_again(loop_of):
    replaced = threading.Event()
    loop = loop_of(lambda _: replaced.wait(30), replaced)
    loop.admit(1)
    assert not loop.lane.serve()
    until(lambda: loop.admit(1) == [True], what="an open lane")
    assert loop.lane.serve()


def test_who_waits_again_and_again_goes_elsewhere(loop_of):
    never = threading.Event()
    loop = loop_of(lambda _: never.wait(0.0001))
    for _ in range(100):
        if loop.admit(1) == [False]:
            break
        assert loop.lane.serve()
    else:
        pytest.fail("still open")


@pytest.mark.parametrize(("slow", "served"), [(1, 100), (100, 6)])
def test_who_computes_again_and_again_goes_elsewhere_and_once_is_no_harm(loop_of, slow, served):
    count = 0

    def serve(_):
        nonlocal count
        count += 1
        end = time.thread_time() + (0.003 if count <= slow else 0.0)
        while time.thread_time() < end:
            pass

    loop = loop_of(serve)
    while count < 100 and loop.admit(1) == [True]:
        assert loop.lane.serve()
    assert count <= served
    assert (count == 100) == (slow == 1)


def test_it_takes_no_more_threads_than_there_may_be(loop_of):
    loop = loop_of(lambda _: None, limit=1)
    assert loop.group.slots.acquire(blocking=False)
    assert loop.admit(1) == [False]
    loop.group.slots.release()
    assert loop.admit(1) == [True]
    assert loop.lane.serve()


def test_the_loop_waits_for_a_thread_that_the_system_has_not(loop_of, caplog):
    replaced = threading.Event()
    loop = loop_of(lambda _: replaced.wait(30), replaced)
    loop.refusals += [ForkdError("no thread to be had")] * 2
    loop.admit(1)
    assert not loop.lane.serve()
    assert caplog.text.count("no thread to be had") == 2
