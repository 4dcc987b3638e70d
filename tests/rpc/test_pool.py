"""The connections of native threads to one worker: a further one for each that calls while others do, up to a bound."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import threading
import time

import pytest

from forkd import rpc
from forkd.rpc.transports.local import connection, pool, slots
from forkd.rpc.transports.waits import until_ready
from tests.rpc.conftest import connections
from tests.rpc.test_replacement import Load
from tests.waiting import until

pytestmark = pytest.mark.parametrize("local", ["threads", "eventlet"], indirect=True)


class Holding:
    """Calls in flight that a worker holds until it is told to release them."""

    def __init__(self, callers, client, worker):
        self._callers, self._client, self._worker = callers, client, worker
        self._held = []

    def add(self, count=1):
        for _ in range(count):
            self._held.append(self._callers.submit(self._client.call, "hold", name="a"))
            self._worker.expect("began a")

    def end(self):
        self._worker.order("release")
        assert [each.result(30) for each in self._held] == ["a"] * len(self._held)
        self._held.clear()


def borrow(callers, client, worker):
    """Have a worker's connection get further ones, and return it with one of them, as a caller borrows it."""
    holding = Holding(callers, client, worker)
    holding.add(10)
    holding.end()
    (pooled,) = connections(client)
    return pooled, pooled._free.pop()


@pytest.fixture
def many():
    with concurrent.futures.ThreadPoolExecutor(40) as callers:
        yield callers


def open_sockets():
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def test_who_calls_alone_has_one_connection(local):
    client = local.worker() and local.client()
    before = open_sockets()
    for number in range(50):
        assert client.call("echo", value=number) == number
    assert open_sockets() == before + 1


def test_who_calls_while_others_do_has_a_further_one_up_to_a_bound(local, many):
    worker, client = local.worker(threads=40), local.client()
    before = open_sockets()
    holding = Holding(many, client, worker)
    holding.add(30)
    (pooled,) = connections(client)
    assert pooled.rank()[0] == 30
    holding.end()
    assert pooled.rank()[0] == 0
    assert open_sockets() == before + 1 + pool._MOST
    holding.add(30)  # by those that there are
    holding.end()
    assert open_sockets() == before + 1 + pool._MOST
    client.close()
    assert open_sockets() == before


def test_each_gives_up_at_its_deadline(local, many, monkeypatch):
    monkeypatch.setattr(connection, "_RECEIVE", 1)
    worker, client = local.worker(threads=40), local.client()
    holding = Holding(many, client, worker)
    holding.add(10)  # so that there are further ones
    client.timeout = 1.5
    began = time.monotonic()
    late = [many.submit(client.call, "hold", name="a") for _ in range(20)]
    for each in late:
        with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
            each.result(30)
    assert 1.5 <= time.monotonic() - began < 15
    for _ in late:
        worker.expect("began a")
    holding.end()


def test_signals_put_off_no_deadline(local, many, monkeypatch, alarm):
    monkeypatch.setattr(connection, "_RECEIVE", 1)
    worker, client = local.worker(threads=40), local.client()
    holding = Holding(many, client, worker)
    holding.add(3)
    alarm(lambda: None, 0.05, 0.05)
    client.timeout = 1.5
    began = time.monotonic()
    with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
        client.call("hold", name="a")
    assert 1.5 <= time.monotonic() - began < 15
    worker.expect("began a")
    holding.end()


def test_a_worker_that_has_no_room_for_further_ones_serves_all_by_the_first(local, many):
    worker, client = local.worker(threads=40, files=20), local.client()
    holding = Holding(many, client, worker)
    holding.add(20)
    holding.end()
    assert client.call("echo", value=1) == 1


def test_a_process_that_has_no_descriptor_left_for_further_ones_calls_by_the_first(local, many, monkeypatch):
    worker, client = local.worker(threads=40), local.client()
    assert client.call("echo", value=1) == 1

    def full(*args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    holding = Holding(many, client, worker)
    holding.add(10)
    holding.end()
    (pooled,) = connections(client)
    assert pooled._further == []


def test_a_killed_worker_fails_the_calls_on_all_of_them(local, many):
    worker, client = local.worker(threads=40), local.client()
    held = [many.submit(client.call, "hold", name="a") for _ in range(20)]
    for _ in held:
        worker.expect("began a")
    worker.process.kill()
    for each in held:
        with pytest.raises(rpc.WorkerLost):
            each.result(30)


def test_no_call_is_lost_while_workers_come_and_go(local, many):
    client, worker = local.client(), local.worker(threads=40)
    load = Load(many, client, 20)
    load.served_by(worker)
    for _ in range(5):
        successor = local.worker(threads=40)
        worker.stop()
        load.served_by(successor)
        worker = successor
    load.end()
    (pooled,) = connections(client)
    assert len(pooled._further) <= pool._MOST


def test_nothing_stays_of_the_connections_to_a_worker_that_has_gone(local, many):
    client, worker = local.client(), local.worker(threads=40)
    before = open_sockets()
    holding = Holding(many, client, worker)
    holding.add(20)
    holding.end()
    worker.stop()
    successor = local.worker()
    assert client.call("who") == successor.pid
    until(lambda: open_sockets() == before + 1, what="one connection is left")


def test_a_worker_with_half_of_its_room_taken_has_no_further_ones(local, many):
    worker, client = local.worker(threads=40, files=20), local.client()
    before = open_sockets()
    holding = Holding(many, client, worker)
    for _ in range(2):
        holding.add(30)
        holding.end()
    room = 10  # of twenty descriptors
    assert open_sockets() <= before + room // 2


def test_what_is_given_back_to_a_worker_that_has_gone_meanwhile_is_closed(local, many):
    worker, client = local.worker(threads=40), local.client()
    before = open_sockets()
    pooled, borrowed = borrow(many, client, worker)
    client.close()
    assert open_sockets() == before
    pooled.take_back(borrowed)
    assert pooled._free == []
    assert borrowed.over


def test_what_a_client_opens_while_it_is_closed_is_closed(local, monkeypatch):
    local.worker()
    client = local.client()
    before = open_sockets()

    def connecting(slot):
        client.close()
        return slots_connect(slot)

    slots_connect = slots.connect
    monkeypatch.setattr(slots, "connect", connecting)
    with pytest.raises(rpc.WorkerLost, match="the client was closed"):
        client.call("echo", value=1)
    assert open_sockets() == before


def test_a_socket_that_another_thread_has_closed_is_not_waited_for(local):
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        until_ready([ours], [theirs], 30)


@pytest.mark.parametrize("end", ["kill", "cut"])
def test_an_idempotent_call_is_not_lost_with_a_worker_whose_connections_end_one_by_one(local, many, end):
    client, worker = local.client(), local.worker(threads=40)
    calls, ended = [], threading.Event()

    def load():
        while not ended.is_set():
            assert client.call("echo_again", value=1) == 1
            calls.append(1)

    loads = [many.submit(load) for _ in range(20)]
    for _ in range(5):
        calls.clear()
        until(lambda: len(calls) > 1000, what="all have made calls", timeout=60)
        worker.process.kill() if end == "kill" else worker.order("cut")
        worker.process.wait(30)
        worker = local.worker(threads=40)
    ended.set()
    assert [each.result(30) for each in loads] == [None] * len(loads)


def test_who_has_lost_a_further_one_has_no_other_to_its_worker(local, many):
    worker, client = local.worker(threads=40), local.client()
    before = open_sockets()
    pooled, borrowed = borrow(many, client, worker)
    borrowed.lose("the worker is gone")
    pooled.take_back(borrowed)
    assert not pooled.usable
    assert client.call("echo", value=1) == 1
    assert connections(client) != [pooled]
    assert open_sockets() == before + 1
