"""What callers see when workers come and go: killed ones, drained ones, new slots."""

from __future__ import annotations

import threading
import time

import pytest

from forkd import rpc
from tests.rpc.conftest import HERE, connections
from tests.waiting import until


class Load:
    """Callers that call without a pause, until told to stop; `answers` by the worker's pid, and what was raised."""

    def __init__(self, callers, client, count=4):
        self.answers = {}
        self.errors = []
        self._over = threading.Event()
        self._done = [callers.submit(self._work, client) for _ in range(count)]

    def _work(self, client):
        while not self._over.is_set():
            try:
                pid = client.call("who")
                self.answers[pid] = self.answers.get(pid, 0) + 1
            except rpc.RpcError as error:
                self.errors.append(error)

    def served_by(self, worker):
        until(lambda: self.answers.get(worker.pid, 0) > 20, what="the worker answers")

    def end(self):
        self._over.set()
        for each in self._done:
            each.result(30)
        assert not self.errors


def test_a_killed_worker_fails_its_calls_at_once(local, callers):
    worker, client = local.worker(), local.client()
    held = [callers.submit(client.call, "hold", name="a") for _ in range(4)]
    for _ in held:
        worker.expect("began a")
    started = time.monotonic()
    worker.process.kill()
    for each in held:
        with pytest.raises(rpc.WorkerLost, match=f"{HERE}/probe/0/1: the worker is gone; the call may have run"):
            each.result(30)
    assert time.monotonic() - started < 15  # of the 30 that it would have waited


def test_calls_go_on_with_the_successor_of_a_killed_worker(host):
    worker, client = host.worker(), host.client()
    assert client.call("who") == worker.pid
    worker.end()
    successor = host.worker()
    host.await_workers(1)
    assert client.call("who") == successor.pid


def test_a_dead_slot_attracts_no_call(host):
    first, second, client = host.worker(0), host.worker(1), host.client()
    until(lambda: client.call("who") == first.pid, what="the first answers")
    until(lambda: client.call("who") == second.pid, what="the second answers")
    first.end()  # the launcher's listener accepts for it still
    host.await_workers(1)
    assert {client.call("who") for _ in range(20)} == {second.pid}


def test_a_stop_at_once_fails_the_calls_in_flight(local, callers):
    worker, client = local.worker(), local.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    worker.order("cut")
    with pytest.raises(rpc.WorkerLost):
        held.result(10)
    worker.expect("stopped")


def test_calls_in_flight_are_spread(local, callers):
    first, second, client = local.worker(0), local.worker(1), local.client()
    until(lambda: client.call("who") == first.pid, what="the first answers")
    until(lambda: client.call("who") == second.pid, what="the second answers")
    held = []
    for count in range(1, 7):  # one after the other: of two that choose at the same instant neither sees the other
        held.append(callers.submit(client.call, "hold", name="a"))
        await_in_flight(client, count)
    for worker in (first, second):
        for _ in range(3):
            worker.expect("began a")
        worker.order("release")
    assert [each.result(30) for each in held] == ["a"] * 6


def await_in_flight(client, count):
    until(lambda: sum(each.rank()[0] for each in connections(client)) == count, what="the call is in flight")


def test_a_new_slot_is_noticed(host):
    first, client = host.worker(0), host.client()
    assert client.call("who") == first.pid
    second = host.worker(1)
    until(lambda: client.call("who") == second.pid, what="the new worker answers")


def test_draining_finishes_what_began_and_moves_what_waits(local, callers):
    old, client = local.worker(0, threads=1), local.client()
    held = callers.submit(client.call, "hold", name="a")
    old.expect("began a")
    pair = [callers.submit(client.call, "who") for _ in range(2)]
    refused = until(lambda: next((each for each in pair if each.done()), None), what="one waits, one is refused")
    with pytest.raises(rpc.Busy):
        refused.result()
    waiting = pair[not pair.index(refused)]
    old.order("stop")
    new = local.worker(0)
    assert waiting.result(30) == new.pid
    old.order("release")
    assert held.result(30) == "a"
    old.expect("stopped")


def test_draining_keeps_the_answers_that_its_own_calls_wait_for(host, callers):
    front, back, client = host.worker(topic="front"), host.worker(), host.client("front")
    held = callers.submit(client.call, "relay", topic="probe", method="hold", args={"name": "a"})
    back.expect("began a")
    front.order("stop")
    if host.is_local:
        until(lambda: not _serves(client), what="the drain under way")
    back.order("release")
    assert held.result(30) == "a"
    front.expect("stopped")


def _serves(client):
    return any(connection.usable for connection in connections(client))


def test_an_idle_client_finds_the_successor_of_a_drained_worker(host):
    old, client = host.worker(), host.client()
    assert client.call("who") == old.pid
    old.stop()
    new = host.worker()
    assert client.call("who") == new.pid


def test_a_call_waits_for_the_successor(host, callers):
    old, client = host.worker(), host.client()
    assert client.call("who") == old.pid
    old.stop()
    early = callers.submit(client.call, "who")
    new = host.worker()
    assert early.result(30) == new.pid


def test_rolling_under_load_loses_no_call(host, callers):
    workers = {slot: host.worker(slot) for slot in range(2)}
    load = Load(callers, host.client())
    for turn in range(4):
        slot = turn % 2
        old = workers[slot]
        workers[slot] = host.worker(slot)  # both serve the slot's socket for a while
        old.stop()
        load.served_by(workers[slot])
    load.end()


def test_replacing_the_only_worker_under_load_loses_no_call(host, callers):
    old = host.worker()
    load = Load(callers, host.client())
    for _ in range(2):
        load.served_by(old)
        old.stop()
        old = host.worker()
    load.served_by(old)
    load.end()
