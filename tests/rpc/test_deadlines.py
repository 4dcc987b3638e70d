"""What happens when time is short: deadlines of callers, and a worker that has more calls than it may run."""

from __future__ import annotations

import time

import pytest

from forkd import rpc
from forkd.errors import ForkdError
from tests.waiting import until


def test_the_caller_gives_up_at_its_deadline_and_the_connection_serves_on(host):
    worker, client = host.worker(), host.client()
    assert client.call("add", a=1) == 2
    client.timeout = 1.0
    started = time.monotonic()
    with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
        client.call("hold", name="a")
    assert 1.0 <= time.monotonic() - started < 15
    worker.expect("began a")
    client.timeout = 30.0
    worker.order("release")
    assert client.call("hold", name="b") == "b"


def test_a_handler_that_outlasts_the_deadline_of_who_does_not_lead_puts_it_off_no_longer(host, callers, alarm):
    worker, client = host.worker(), host.client()
    leader = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    started = time.monotonic()
    alarm(lambda: until(lambda: time.monotonic() > started + 1, what="the deadline is over"), 0.4)
    with pytest.raises(rpc.Timeout, match="no answer within the deadline"):
        client.prepare(timeout=0.6).call("hold", name="b")
    assert 0.6 <= time.monotonic() - started < 15
    worker.order("release")
    assert leader.result(30) == "a"


def test_a_timeout_is_a_timeout_error(host):
    host.worker()
    client = host.client()
    assert client.call("add", a=1) == 2
    with pytest.raises(TimeoutError):
        client.prepare(timeout=0.05).call("hold", name="a")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5"])
def test_what_is_no_deadline_to_come_is_refused(timeout):
    with pytest.raises(ForkdError, match="expected more than 0 seconds"):
        rpc.Client("probe", timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 1e300, 1e9 - 1])
def test_a_client_may_wait_for_ever(host, callers, timeout):
    worker, client = host.worker(), host.client(timeout=timeout)
    held = [callers.submit(client.call, "hold", name="a") for _ in range(3)]
    for _ in held:
        worker.expect("began a")
    worker.order("release")
    assert [each.result(30) for each in held] == ["a"] * 3


def test_a_leader_that_gives_up_hands_over(host, callers):
    worker, client = host.worker(), host.client()
    assert client.call("add", a=1) == 2
    client.timeout = 1.0
    short = callers.submit(client.call, "hold", name="short")
    worker.expect("began short")
    client.timeout = 30.0
    long = [callers.submit(client.call, "hold", name="long") for _ in range(8)]
    for _ in long:
        worker.expect("began long")
    with pytest.raises(rpc.Timeout):
        short.result(30)
    worker.order("release")
    assert [each.result(30) for each in long] == ["long"] * 8


def test_a_call_that_is_late_is_not_begun(host, callers):
    worker, client = host.worker(threads=1), host.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    with pytest.raises(rpc.Timeout):
        client.prepare(timeout=0.05).call("bump")
    # The worker counts from when it read the call.
    passed = time.monotonic() + 0.2
    until(lambda: time.monotonic() > passed, what="the deadline passes for the worker, too")
    worker.order("release")
    held.result(30)
    assert until(lambda: _counted(client), what="the worker has dropped the late call") == "0"


def _counted(client):
    try:
        return str(client.call("count"))
    except rpc.Busy:  # the late call still waits in the place of the one that may
        return ""


def test_a_full_worker_refuses_at_once(local, callers):
    worker, client = local.worker(threads=2), local.client()
    began = [callers.submit(client.call, "hold", name="a") for _ in range(2)]
    for _ in began:
        worker.expect("began a")
    outcomes = [callers.submit(client.call, "hold", name="b") for _ in range(6)]
    until(lambda: sum(each.done() for each in outcomes) == 4, what="all but those that may wait are refused")
    refused = [each for each in outcomes if each.done()]
    for each in refused:
        with pytest.raises(rpc.Busy, match="probe: 4 calls are in hand, 2 of them waiting"):
            each.result()
    with pytest.raises(rpc.NoSuchMethod):  # told also by a full worker
        client.call("nope")
    worker.order("release")
    assert [each.result(30) for each in began] == ["a", "a"]
    assert [each.result(30) for each in outcomes if each not in refused] == ["b", "b"]
    assert client.call("add", a=1) == 2


def test_a_topic_without_a_ready_worker_times_out(local):
    local.listener()
    with pytest.raises(rpc.Timeout, match="probe: no worker was ready within the deadline"):
        local.client(timeout=0.2).call("who")


def test_who_waits_for_a_worker_looks_for_new_slots_every_half_second(local, looks):
    local.listener()
    with pytest.raises(rpc.Timeout):
        local.client(timeout=1.2).call("who")
    assert 2 <= len(looks) <= 4


def test_a_slot_that_is_new_is_found_by_who_waits_for_another(local, callers):
    local.listener(0)
    early = callers.submit(local.client().call, "who")
    worker = local.worker(1)
    assert early.result(30) == worker.pid


def test_a_stale_socket_times_out_too(local):
    local.listener().close()
    with pytest.raises(rpc.Timeout, match="no worker was ready"):
        local.client(timeout=0.2).call("who")


def test_callers_that_find_no_worker_wait_for_the_first(host, callers):
    host.vacancy()
    client = host.client()
    early = [callers.submit(client.call, "who") for _ in range(8)]
    worker = host.worker()
    assert {each.result(30) for each in early} == {worker.pid}


def test_closing_a_client_ends_its_calls(host, callers):
    worker, client = host.worker(), host.client()
    held = [callers.submit(client.call, "hold", name="a") for _ in range(3)]
    for _ in held:
        worker.expect("began a")
    client.close()
    for each in held:
        with pytest.raises(rpc.WorkerLost, match="the client was closed"):
            each.result(5)
    assert client.call("add", a=1) == 2
