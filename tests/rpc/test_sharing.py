"""Callers that share a connection: who reads and who writes for all, and who takes over when one leaves."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from forkd import rpc
from forkd.rpc import wire
from forkd.rpc.transports.local.connection import Connection
from tests.rpc.conftest import Given, connections
from tests.waiting import until

if TYPE_CHECKING:
    from concurrent.futures import Future

pytestmark = pytest.mark.parametrize("local", ["threads", "eventlet"], indirect=True)


def give():
    raise Given


@pytest.fixture
def shared(monkeypatch):
    """Have native threads share the connection, as they do where no further one is to be had."""
    monkeypatch.setattr("forkd.rpc.transports.local.pool._MOST", 0)


def in_flight(client):
    return sum(len(each.pending) for each in connections(client))


def await_flight(client, count):
    until(lambda: in_flight(client) == count, what=f"{count} calls are in flight")


def naps(callers, client, count):
    """Have calls end one after the other; the first of them leads."""
    calls = []
    for number in range(count):
        before = in_flight(client)
        calls.append(callers.submit(client.call, "nap", seconds=0.2 * (number + 1), key=number))
        await_flight(client, before + 1)
    began = time.monotonic()
    assert [each.result(30) for each in calls] == list(range(count))
    assert time.monotonic() - began < 5


def test_a_fan_out_that_waits_for_another_worker_is_not_to_lead(local, callers, shared):
    slow = local.worker(0, threads=40)
    local.worker(1, threads=40)
    client = local.client(timeout=8)
    assert len(client.fanout("who")) == 2
    os.kill(slow.pid, signal.SIGSTOP)
    fanout = callers.submit(client.fanout, "nap", seconds=6, key="a")
    await_flight(client, 2)
    naps(callers, client.prepare(worker=1), 3)
    os.kill(slow.pid, signal.SIGCONT)
    assert len(fanout.result(30)) == 2


def test_a_fan_out_that_was_broken_off_is_not_to_lead(local, callers, shared, alarm):
    for slot in range(2):
        local.worker(slot, threads=40)
    client = local.client(timeout=8)
    assert len(client.fanout("who")) == 2
    alarm(give, 0.3)
    with pytest.raises(Given):
        client.fanout("hold", name="a")
    naps(callers, client.prepare(worker=1), 3)


def test_a_call_that_was_broken_off_while_it_was_sent_is_not_to_lead(local, callers, shared, alarm):
    worker, client = local.worker(threads=40), local.client(timeout=8)
    assert client.call("echo", value=1) == 1
    os.kill(worker.pid, signal.SIGSTOP)
    alarm(give, 0.3)
    with pytest.raises(Given):
        client.call("nap", seconds=6, key="x" * 4_000_000)
    os.kill(worker.pid, signal.SIGCONT)
    naps(callers, client, 3)


def test_who_waits_while_another_looks_for_a_hello_leads_after_it(local, callers, shared):
    local.worker(threads=40)
    client = local.client(timeout=8)
    assert client.call("echo", value=1) == 1
    (connection,) = connections(client)
    read = connection.read
    held: list[Future[int]] = []

    def reading(*args):
        connection.read = read
        held.append(callers.submit(client.call, "echo", value=2))
        until(lambda: connection._followers, what="that one finds another at it")

    connection.read = reading
    connection.glance()
    assert held[0].result(4) == 2


def test_who_writes_reads_once_nobody_else_does(local, callers, shared):
    worker, client = local.worker(threads=40), local.client(timeout=8)
    assert client.call("echo", value=1) == 1
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(rpc.Timeout):  # its answer is what the worker cannot write
        client.prepare(timeout=0.2).call("large", size=6_000_000)
    leader = callers.submit(client.prepare(timeout=1).call, "echo", value=1)
    (connection,) = connections(client)
    until(connection._lead.locked, what="it leads")
    writer = callers.submit(client.call, "echo", value="x" * 7_000_000)
    with pytest.raises(rpc.Timeout):
        leader.result(30)
    os.kill(worker.pid, signal.SIGCONT)
    assert writer.result(30) == "x" * 7_000_000


def test_who_has_its_answer_writes_no_longer_for_others(local, callers):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(10)
        connection = Connection(ours, "a")
        deadline = time.monotonic() + 10

        def ask(number):
            return connection.answer(connection.begin(number, b"%d" % number * 1_000_000, deadline), deadline)

        first = callers.submit(ask, 1)
        until(lambda: connection.unsent, what="the first is at it")
        second = callers.submit(ask, 2)
        until(lambda: len(connection.pending) == 2, what="the second waits")
        assert _take(theirs, 1_000_000) == b"1" * 1_000_000
        theirs.sendall(wire.frame({"type": "answer", "id": 1, "result": "a"}))
        assert first.result(5)["result"] == "a"
        assert _take(theirs, 1_000_000) == b"2" * 1_000_000
        theirs.sendall(wire.frame({"type": "answer", "id": 2, "result": "b"}))
        assert second.result(5)["result"] == "b"
        connection.close()


def _take(sock, size):
    data = bytearray()
    while len(data) < size:
        data += sock.recv(size - len(data))
    return bytes(data)
