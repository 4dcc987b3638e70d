"""What becomes of calls over a broker when workers, connections or the broker itself go away, or there is no room."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time

import kombu.connection
import pytest

from forkd import Service, rpc
from forkd.errors import ForkdError
from forkd.rpc import wire
from forkd.rpc.transports.amqp import names
from tests.broker import Broker
from tests.rpc.conftest import HERE
from tests.waiting import until

EXPECTED = (rpc.WorkerLost, rpc.BrokerUnavailable)


class Load:
    """Callers that mark a key with each call; `marked` has those whose call returned."""

    def __init__(self, callers, client, count=8):
        self.marked = []
        self.errors = []
        self._keys = itertools.count()
        self._over = threading.Event()
        self._done = [callers.submit(self._work, client) for _ in range(count)]

    def _work(self, client):
        while not self._over.is_set():
            key = next(self._keys)
            try:
                assert client.call("mark", key=key) == key
                self.marked.append(key)
            except EXPECTED as error:
                self.errors.append(error)

    def goes_on(self, count=50):
        """Wait until more calls have returned; raise what has ended a caller that was not expected."""
        most = len(self.marked) + count
        until(lambda: len(self.marked) > most or self._ended(), timeout=60, what="calls return")

    def end(self, client, slots):
        """Stop, and check that what returned has run, and no call twice."""
        self._over.set()
        for each in self._done:
            each.result(60)
        ran = [key for slot in slots for key in client.prepare(worker=slot).call("marked")]
        assert len(ran) == len(set(ran))
        assert set(self.marked) <= set(ran)

    def _ended(self):
        return [each.result() for each in self._done if each.done()]


def seconds_of_cpu(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize("graceful", [True, False], ids=["stopped", "killed"])
def test_a_broker_that_restarts_in_the_middle_of_a_load(remote, broker, callers, graceful):
    workers = [remote.worker(0), remote.worker(1)]
    client = remote.client(timeout=120.0)  # longer than a broker may take to start
    remote.worker(topic="idle")
    idle = remote.client("idle")
    assert idle.call("add", a=1) == 2
    load = Load(callers, client)
    load.goes_on()
    if graceful:
        broker.stop()
    else:
        broker.kill()
    before, since = [seconds_of_cpu(worker.pid) for worker in workers], time.monotonic()
    broker.start()
    after, took = [seconds_of_cpu(worker.pid) for worker in workers], time.monotonic() - since
    for worker, was, now in zip(workers, before, after, strict=True):
        assert now - was < 0.2 * took, f"{worker.pid} is busy without a broker"
    load.goes_on()
    remote.await_workers(2)
    load.end(client, [0, 1])
    assert len(load.errors) <= 8  # at most what was in flight then: all others have waited
    remote.await_workers(1, "idle")
    assert idle.call("add", a=1) == 2


def test_connections_that_are_cut_in_the_middle_of_a_load(remote, broker, callers):
    remote.worker(0)
    remote.worker(1)
    client = remote.client()
    load = Load(callers, client)
    for _ in range(3):
        load.goes_on()
        broker.cut()
    load.goes_on()
    remote.await_workers(2)
    load.end(client, [0, 1])
    assert len(load.errors) <= 3 * 2 * 8  # for each call in flight, its caller's connection and its worker's


def test_a_worker_whose_connection_is_cut_loses_no_call_that_comes_back_to_it(remote, broker, callers):
    worker, client = remote.worker(0), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    broker.cut(f"{HERE}/probe/0")
    assert client.call("add", a=1) == 2  # it is back
    worker.order("release")
    assert held.result(30) == "a"


def test_a_killed_worker_s_callers_hear_of_it_from_another(remote, callers):
    lost, client = remote.worker(0), remote.client()
    held = [callers.submit(client.call, "hold", name="once") for _ in range(4)]
    again = [callers.submit(client.call, "hold_again", name="again") for _ in range(4)]
    for _ in range(8):
        lost.expect("began once", "began again")
    other = remote.worker(1)
    lost.process.kill()
    for each in held:
        with pytest.raises(rpc.WorkerLost, match="the worker that had the call was lost; it may have run"):
            each.result(30)
    for _ in again:
        other.expect("began again")
    other.order("release")
    assert [each.result(30) for each in again] == ["again"] * 4


def test_a_stop_at_once_is_a_loss(remote, callers):
    first, client = remote.worker(0), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    first.expect("began a")
    remote.worker(1)
    first.order("cut")
    with pytest.raises(rpc.WorkerLost):
        held.result(30)
    first.expect("stopped")


def test_what_waits_waits_in_the_broker_and_goes_to_who_is_free(remote, callers):
    busy, client = remote.worker(0, threads=1), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    busy.expect("began a")
    waiting = [callers.submit(client.call, "who") for _ in range(5)]
    free = remote.worker(1, threads=1)
    assert {each.result(30) for each in waiting} == {free.pid}
    busy.order("release")
    assert held.result(30) == "a"


def test_a_draining_worker_finishes_what_it_has_begun(remote, callers):
    old, client = remote.worker(0, threads=1), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    old.expect("began a")
    waiting = [callers.submit(client.call, "who") for _ in range(5)]
    to_it = callers.submit(client.prepare(worker=0).call, "who")
    old.order("stop")
    new = remote.worker(0)
    assert {each.result(30) for each in [*waiting, to_it]} == {new.pid}
    old.order("release")
    assert held.result(30) == "a"
    old.expect("stopped")


def test_a_queue_takes_no_more_than_may_wait(remote, callers):
    remote.transport += "?waiting=2"
    worker, client = remote.worker(threads=1), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    waiting = [callers.submit(client.call, "add", a=1) for _ in range(6)]
    until(lambda: sum(each.done() for each in waiting) == 4, what="all but those that may wait are refused")
    with pytest.raises(rpc.Busy, match="probe: as many calls wait for a worker as may"):
        next(each for each in waiting if each.done()).result()
    worker.order("release")
    assert held.result(30) == "a"
    assert sum(each.exception(30) is None for each in waiting) == 2


def test_the_broker_drops_calls_whose_deadline_has_passed(remote, callers):
    worker, client = remote.worker(threads=1), remote.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    hurried = client.prepare(timeout=0.3)
    for _ in range(3):
        with pytest.raises(rpc.Timeout, match="probe: no answer within the deadline"):
            hurried.call("bump")
    # The broker counts from when it got the call.
    passed = time.monotonic() + 0.2
    until(lambda: time.monotonic() > passed, what="the deadline passes for the broker, too")
    worker.order("release")
    assert held.result(30) == "a"
    assert client.call("count") == 0


def test_a_call_that_has_waited_so_long_that_it_would_be_late_is_not_begun(remote, callers):
    worker, client = remote.worker(threads=1), remote.client(timeout=2)
    assert client.call("nap", seconds=1.1, key="long") == "long"
    held = callers.submit(client.prepare(timeout=30).call, "hold", name="a")
    worker.expect("began a")
    waiting = callers.submit(client.call, "nap", seconds=0, key="late")
    passed = time.monotonic() + 1.3
    until(lambda: time.monotonic() > passed, what="it has less than half of its time left")
    worker.order("release")
    assert held.result(30) == "a"
    assert client.call("marked") == ["long"]
    with pytest.raises(rpc.Timeout):
        waiting.result(30)


def test_what_is_begun_is_in_time_though_too_much_comes_and_takes_longer_than_before(remote, callers):
    remote.worker(threads=1)
    client, answered = remote.client(timeout=1), []
    patient = client.prepare(timeout=30)
    assert patient.call("nap", seconds=0, key=0) == 0  # so quick it can be

    def nap(key):
        with contextlib.suppress(rpc.Timeout):
            answered.append(client.call("nap", seconds=0.1, key=key))

    list(callers.map(nap, range(1, 81)))  # 32 at once: each of the first waits for up to 3 s
    begun = patient.call("marked")[1:]
    assert len(answered) > 0.8 * len(begun)


def test_a_topic_is_forgotten_when_nobody_has_served_it_for_a_while(remote):
    worker, client = remote.worker(unused=1), remote.client()
    assert client.call("add", a=1) == 2
    worker.stop()
    hurried = client.prepare(timeout=0.2)

    def is_forgotten():
        try:
            hurried.call("add", a=1)
        except rpc.Timeout:
            return False
        except rpc.NoSuchTopic:
            return True

    until(is_forgotten, what="nobody serves the topic")


def test_workers_that_do_not_agree_on_the_queue_are_told(remote):
    remote.worker()
    server = rpc.Server("probe", f"{remote.transport}?waiting=7")
    with pytest.raises(ForkdError, match=r"probe: .*the broker refuses us: PRECONDITION_FAILED .*x-max-length"):
        Service(server, concurrency="threads").start()


def test_a_full_fan_out_and_a_lost_worker(remote, callers):
    lost, other = remote.worker(0), remote.worker(1)
    client = remote.client()
    outcome = callers.submit(client.fanout, "hold", name="a")
    for worker in (lost, other):
        worker.expect("began a")
    lost.process.kill()
    successor = remote.worker(0)
    other.order("release")
    found = outcome.result(30)
    assert found.pop(f"{HERE}/probe/1/2") == "a"
    assert isinstance(found.pop(f"{HERE}/probe/0/1"), rpc.WorkerLost)
    assert not found
    assert set(client.fanout("who").values()) == {successor.pid, other.pid}


def test_a_fan_out_while_slots_have_two_workers(remote):
    for _ in range(2):
        for slot in range(2):
            remote.worker(slot)
    client = remote.client()
    assert len(client.fanout("who")) == 2


def test_a_fan_out_without_an_answer_names_who_owes_one(remote):
    worker = remote.worker(0)
    client = remote.client(timeout=1.0)
    found = client.fanout("hold", name="a")
    worker.expect("began a")
    (error,) = found.values()
    assert list(found) == [f"{HERE}/probe/0/1"]
    assert isinstance(error, rpc.Timeout)


def test_messages_that_are_no_calls_are_dropped(remote):
    worker, client = remote.worker(), remote.client()
    assert client.call("who") == worker.pid
    with kombu.connection.Connection(remote.transport) as connection, connection.channel() as channel:
        for body in (b"", b"\xc1", b"{}", b"\x81\xa4type\xa4call", b"x" * 300_000, b"x" * (wire.MESSAGE_LIMIT + 1)):
            message = channel.prepare_message(body)
            channel.basic_publish(message, "", names.of_topic("probe"))
    assert client.call("who") == worker.pid
    until(
        lambda: worker.errors().count("a message was dropped: ") == 5, what="all but the call of no method are dropped"
    )


def test_a_broker_that_is_short_of_memory_takes_calls_when_it_has_some_again(remote, broker, callers):
    remote.worker()
    client = remote.client()
    assert client.call("add", a=1) == 2
    broker.alarm(on=True)
    try:
        # The first message after the alarm makes the broker tell us.
        until(lambda: refused(client), what="the broker takes no calls")
        began = time.monotonic()
        patient = callers.submit(client.call, "add", a=1)
        with pytest.raises(rpc.BrokerUnavailable, match="the broker takes no calls: low on memory"):
            client.prepare(timeout=0.5).call("bump")
        assert 0.5 <= time.monotonic() - began < 10
    finally:
        broker.alarm(on=False)
    assert patient.result(30) == 2
    assert client.call("count") == 0


def refused(client):
    try:
        client.prepare(timeout=0.2).call("add", a=1)
    except rpc.BrokerUnavailable:
        return True
    except rpc.Timeout:
        return False
    return False


def test_a_broker_that_hangs_is_found_out(remote, broker, callers):
    remote.transport += "?heartbeat=1"
    worker, client = remote.worker(), remote.client(timeout=None)
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    broker.suspend()
    try:
        with pytest.raises(rpc.WorkerLost, match="the broker has said nothing for 2 s"):
            held.result(30)
        sentence = "probe: the connection to the broker was lost: the broker has said nothing for 2 s"
        until(lambda: sentence in worker.errors(), what="the worker notices, too")
        with pytest.raises(rpc.BrokerUnavailable, match=r"probe: no broker can be reached: 127\.0\.0\.1:"):
            client.prepare(timeout=1.0).call("add", a=1)
    finally:
        broker.resume()
    worker.order("release")
    assert client.call("add", a=1) == 2


def test_an_idle_worker_and_its_broker_hear_of_each_other(remote):
    remote.transport += "?heartbeat=1"
    worker, client = remote.worker(), remote.client()
    assert client.call("who") == worker.pid
    passed = time.monotonic() + 4
    until(lambda: time.monotonic() > passed, what="several heartbeats are due")
    assert client.call("who") == worker.pid
    assert "lost" not in worker.errors()


@pytest.fixture(scope="module")
def nobody():
    """Return the address of a broker that is not there."""
    broker = Broker()
    yield broker.url()
    broker.end()


def test_a_worker_without_a_broker_does_not_start(nobody):
    server = rpc.Server("probe", nobody)
    with pytest.raises(ForkdError, match=r"probe: no broker can be reached: 127\.0\.0\.1:[0-9]+: Connection refused"):
        Service(server, concurrency="threads").start()


def test_a_caller_without_a_broker_hears_of_it_at_its_deadline(nobody):
    client = rpc.Client("probe", nobody, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(
        rpc.BrokerUnavailable, match=r"probe: no broker can be reached: 127\.0\.0\.1:[0-9]+: Connection"
    ):
        client.call("add", a=1)
    assert time.monotonic() - began < 10
    with pytest.raises(rpc.BrokerUnavailable):
        client.fanout("add", a=1)
