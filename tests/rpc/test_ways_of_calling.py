"""Casts, fan-outs, calls to one worker, versions, contexts, and exceptions that both sides know."""

from __future__ import annotations

import datetime as dt
import logging
import select

import pytest

from forkd import log_context, logs, rpc
from forkd.errors import ForkdError
from tests.rpc import known
from tests.rpc.conftest import HERE
from tests.waiting import until


def test_a_cast_returns_when_it_is_accepted_and_runs_then(host):
    worker, client = host.worker(), host.client()
    assert client.cast("hold", name="a") is None
    worker.expect("began a")
    client.cast("bump")
    until(lambda: client.call("count") == 1, what="the cast has run")
    worker.order("release")


@pytest.mark.parametrize(
    ("method", "args", "error"),
    [
        ("nope", {}, rpc.NoSuchMethod),
        ("add", {}, rpc.BadArguments),
        ("add", {"a": {1}}, rpc.BadArguments),
        (5, {}, rpc.BadArguments),
    ],
)
def test_a_cast_that_is_not_accepted_says_why(client, method, args, error):
    with pytest.raises(error):
        client.cast(method, **args)


def test_what_a_cast_comes_to_is_nobody_s_to_hear(client):
    client.cast("boom", text="x")
    client.cast("unsendable")
    assert client.call("add", a=1) == 2


def test_a_full_worker_refuses_casts_too(host):
    worker, client = host.worker(threads=1, call_queue=1), host.client()
    client.cast("hold", name="a")
    worker.expect("began a")
    client.cast("bump")
    with pytest.raises(rpc.Busy):
        client.cast("bump")
    worker.order("release")
    until(lambda: _counted(client) == 1, what="the one that waited has run")


def _counted(client):
    try:
        return client.call("count")
    except rpc.Busy:  # one waits still
        return None


def test_a_draining_worker_runs_the_casts_that_it_has_accepted(host):
    old, client = host.worker(threads=1, call_queue=8), host.client()
    client.cast("hold", name="a")
    old.expect("began a")
    for name in "bcd":
        client.cast("hold", name=name)
    old.order("stop")
    old.order("release")
    for name in "bcd":
        old.expect(f"began {name}")
    old.expect("stopped")


@pytest.mark.parametrize("length", [0, 3])
def test_as_many_calls_wait_as_the_server_says(local, callers, length):
    worker, client = local.worker(threads=1, call_queue=length), local.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    outcomes = [callers.submit(client.call, "hold", name="b") for _ in range(6)]
    until(lambda: sum(each.done() for each in outcomes) == 6 - length, what="all but those that may wait are refused")
    worker.order("release")
    assert held.result(30) == "a"
    assert sum(each.exception(30) is None for each in outcomes) == length


def test_a_fan_out_reaches_every_worker_and_tells_what_each_came_to(host):
    workers = [host.worker(slot) for slot in range(3)]
    client = host.client()
    assert client.fanout("who") == {f"{HERE}/probe/{slot}/{slot + 1}": workers[slot].pid for slot in range(3)}
    failures = client.fanout("boom", text="x")
    assert sorted(failures) == [f"{HERE}/probe/{slot}/{slot + 1}" for slot in range(3)]
    assert all(isinstance(each, rpc.RemoteError) for each in failures.values())
    with pytest.raises(rpc.BadArguments):
        client.fanout("echo", value={1})


def test_the_workers_of_a_fan_out_work_at_the_same_time(host, callers):
    workers = [host.worker(slot) for slot in range(3)]
    outcome = callers.submit(host.client().fanout, "hold", name="a")
    for worker in workers:
        worker.expect("began a")
    for worker in workers:
        worker.order("release")
    assert list(outcome.result(30).values()) == ["a"] * 3


def test_a_fan_out_tells_of_workers_that_are_lost_and_that_are_not_there(local, callers):
    lost, other = local.worker(0), local.worker(1)
    local.listener(2)
    client = local.client(timeout=5.0)
    outcome = callers.submit(client.fanout, "hold", name="a")
    for worker in (lost, other):
        worker.expect("began a")
    lost.process.kill()
    other.order("release")
    found = outcome.result(30)
    assert found.pop(f"{HERE}/probe/1/2") == "a"
    assert isinstance(found.pop(f"{HERE}/probe/0/1"), rpc.WorkerLost)
    ((path, error),) = found.items()
    assert path.endswith("/2.sock")
    assert isinstance(error, rpc.Timeout)


def test_a_fan_out_follows_a_slot_whose_worker_drains(host, callers):
    old, client = host.worker(threads=1), host.client()
    held = callers.submit(client.call, "hold", name="a")
    old.expect("began a")
    outcome = callers.submit(client.fanout, "who")
    old.order("stop")
    new = host.worker()
    assert outcome.result(30) == {f"{HERE}/probe/0/2": new.pid}
    old.order("release")
    assert held.result(30) == "a"


def test_a_fan_out_to_nobody(host):
    with pytest.raises(rpc.NoSuchTopic):
        host.client("nobody").fanout("who")


def test_a_call_to_one_worker(host):
    first, second = host.worker(0), host.worker(1)
    client = host.client()
    for worker in (1, f"{HERE}/probe/1", f"{HERE}/probe/1/2"):
        assert {client.prepare(worker=worker).call("who") for _ in range(5)} == {second.pid}
    assert client.prepare(worker=1).prepare(worker=None, timeout=20).timeout == 20
    assert client.prepare(worker=0).call("who") == first.pid


@pytest.mark.parametrize("worker", [7, f"{HERE}/probe/7", "there/probe/0", f"{HERE}/probe/0/99", f"{HERE}/prob/0"])
def test_a_call_to_a_worker_that_is_not_there_fails_at_once(client, worker):
    with pytest.raises(rpc.NoSuchWorker, match="no worker"):
        client.prepare(worker=worker).call("who")


@pytest.mark.parametrize(
    "worker", [-1, True, "", "probe/0", "a/b/c", "a/b/0/1/2", 1.5, 10**9, "a\udcff/b/0", f"{'a' * 200}/b/0"]
)
def test_what_names_no_worker_is_refused(client, worker):
    with pytest.raises(ForkdError, match="expected a slot of this host, or HOST/SERVICE/SLOT"):
        client.prepare(worker=worker)


def test_a_call_to_one_worker_waits_for_the_successor_in_its_slot(host, callers):
    old = host.worker(0)
    host.worker(1)
    client = host.client().prepare(worker=0)
    assert client.call("who") == old.pid
    old.end()
    host.await_workers(1)
    early = callers.submit(client.call, "who")
    new = host.worker(0)
    assert early.result(30) == new.pid


@pytest.mark.parametrize("version", ["1.0", "1", "1.2"])
def test_a_version_that_is_served(client, version):
    assert client.prepare(version=version).call("add", a=1) == 2


@pytest.mark.parametrize("version", ["1.3", "2.0", "0.9", "1.0.0", "x", ""])
def test_a_version_that_is_not_served(client, version):
    with pytest.raises(rpc.WrongVersion, match=r"probe serves version 1\.2, not"):
        client.prepare(version=version).call("add", a=1)


def test_a_context_goes_on_with_the_calls_that_a_call_makes(host):
    host.worker()
    host.worker(topic="other")
    client = host.client().prepare(context={"request_id": "r1", "user": "ada"})
    passed = client.call("relay", topic="other", method="with_context", args={"value": 1})
    assert passed == [1, {"request_id": "r1", "user": "ada"}]


def test_what_a_method_logs_says_which_call_it_is_about(client):
    strange = client.prepare(context={"request_id": "r1", "n": 7, "list": [1], "user": "a\nb"})
    assert strange.call("about") == {"request_id": "r1", "n": "7", "user": "a\\nb"}
    assert client.prepare(context={"large": "x" * 2000, "z": 1}).call("about") == {}
    assert list(client.call("about")) == ["request_id"]


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ("text", "WARNING probe/0: [request_id=r1 user=ada] careful\n"),
        ("json", '"context":{"request_id":"r1","user":"ada"},"text":"careful"}\n'),
    ],
)
def test_a_log_line_shows_the_context(monkeypatch, format, line):
    monkeypatch.setenv("FORKD_LOG_FORMAT", format)
    record = logging.LogRecord("a", logging.WARNING, "f", 1, "careful", None, None)
    look = logs.Look("probe/0")
    log_context.set_current({"request_id": "r1", "user": "ada"})
    try:
        assert f"{look.format(record)}\n".endswith(line)
    finally:
        log_context.set_current({})
    assert "r1" not in look.format(record)


@pytest.mark.parametrize("version", [1.2, 1, b"1.2", ["1.2"]])
def test_a_version_is_text(client, version):
    with pytest.raises(ForkdError, match=r'version: expected text such as "1\.2", got'):
        client.prepare(version=version)


@pytest.mark.parametrize("context", [{1: 2}, None, ["user"]])
def test_a_context_has_names_that_are_text(client, context):
    with pytest.raises(ForkdError, match="context: expected a dict with names that are text"):
        client.prepare(context=context)
    with pytest.raises(rpc.BadArguments, match="cannot be sent"):
        client.prepare(context={"a": {1}}).call("add", a=1)


def test_exceptions_that_are_allowed_are_raised_as_themselves(shared):
    kinds = [known.Refused, known.Strange, KeyError]
    with shared.client(allowed_exceptions=kinds) as client:
        with pytest.raises(known.Refused) as caught:
            client.call("refuse")
        assert caught.value.args == ("no", dt.date(2026, 1, 1))
        assert isinstance(caught.value.__cause__, rpc.RemoteError)
        assert "raise (known.Strange" in caught.value.__cause__.traceback
        with pytest.raises(KeyError, match="x"):
            client.call("boom", text="x")
        with pytest.raises(rpc.RemoteError, match="Strange: 1 and 2"):  # nobody can make it anew
            client.call("refuse", strangely=True)
        with pytest.raises(rpc.RemoteError, match="SystemExit"):
            client.call("leave")


@pytest.mark.parametrize("kinds", [[7], ["KeyError"], [KeyboardInterrupt]])
def test_what_is_no_exception_cannot_be_allowed(kinds):
    with pytest.raises(ForkdError, match="expected classes of exceptions"):
        rpc.Client("probe", allowed_exceptions=kinds)


def test_an_idempotent_call_goes_to_another_worker_when_its_own_is_lost(local, callers):
    lost, other = local.worker(0), local.worker(1)
    client = local.client()
    held = callers.submit(client.prepare(worker=0).call, "hold", name="not twice")
    lost.expect("began not twice")
    until(lambda: client.call("who") == other.pid, what="both are known")
    held_too = callers.submit(client.prepare(worker=1).call, "hold", name="there")
    other.expect("began there")
    again = callers.submit(client.call, "hold_again", name="again")
    lost.expect("began again")
    lost.process.kill()
    with pytest.raises(rpc.WorkerLost):
        held.result(30)
    other.expect("began again")
    other.order("release")
    assert [each.result(30) for each in (held_too, again)] == ["there", "again"]


def test_a_call_that_kills_two_workers_kills_no_third(host, callers):
    workers = {each.process.stdout: each for each in (host.worker(slot) for slot in range(3))}
    again = callers.submit(host.client().call, "hold_again", name="again")
    for _ in range(2):
        (out,) = select.select(workers, [], [], 30)[0]
        worker = workers.pop(out)
        worker.expect("began again")
        worker.process.kill()
    with pytest.raises(rpc.WorkerLost):
        again.result(30)
