"""What every call can count on, whichever engine serves it."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import re
import subprocess
import sys
import threading
import time
import uuid

import pytest

from forkd import rpc, scoreboard
from forkd.errors import ForkdError
from forkd.rpc import wire
from tests.rpc import awkward
from tests.rpc.conftest import ROOT
from tests.waiting import until

EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
VALUES = [
    dt.datetime(2026, 2, 28, 23, 59, 59, 999999),  # noqa: DTZ001 -- these, too
    dt.datetime(2026, 2, 28, tzinfo=dt.UTC),
    dt.datetime(2026, 2, 28, tzinfo=EAST),
    dt.date(1, 1, 1),
    uuid.UUID(int=7),
    decimal.Decimal("-1.50"),
    [{"at": dt.date(2026, 1, 1)}],
    None,
    True,
    0,
    -1,
    2**63,
    1.5,
    "",
    "ö",
    b"\0\xff",
    [],
    [1, [2]],
    {},
    {"a": {"b": [None]}},
    {1: "one"},
]


def test_values_arrive_as_they_left(client):
    found = [client.call("echo", value=value) for value in VALUES]
    assert found == VALUES
    assert list(map(str, found)) == list(map(str, VALUES))  # a Decimal's zeros, a datetime's zone


def test_a_tuple_arrives_as_a_list(client):
    assert client.call("echo", value=(1, (2,))) == [1, [2]]


def test_defaults_keywords_static_and_class_methods(client):
    assert client.call("add", a=1) == 2
    assert client.call("add", a=1, b=2) == 3
    assert client.call("anything", method=2, topic=3, context=4) == {"method": 2, "topic": 3, "context": 4}
    assert client.call("fixed") == "fixed"
    assert client.call("of_class") == "Probe"


def test_a_remote_exception_says_class_message_and_where(client):
    with pytest.raises(rpc.RemoteError) as caught:
        client.call("boom", text="x")
    assert (caught.value.class_name, caught.value.message) == ("KeyError", "'x'")
    assert "raise KeyError(text)" in caught.value.traceback
    assert "dispatcher.py" not in caught.value.traceback
    assert str(caught.value) == "KeyError: 'x'"


def test_a_method_that_calls_sys_exit_ends_its_call_only(client):
    with pytest.raises(rpc.RemoteError, match="SystemExit: 3"):
        client.call("leave")
    assert client.call("add", a=1) == 2


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("cancel", "CancelledError: b"),
        ("interrupt", "KeyboardInterrupt: b"),
        ("give_up", "GeneratorExit: b"),
        ("stop_itself", "Stopped"),
    ],
)
def test_a_method_that_raises_no_plain_exception_is_answered_and_no_thread_miscounted(client, method, text):
    with pytest.raises(rpc.RemoteError, match=text):
        client.call(method)
    until(lambda: client.call("miscounted") == 0, what="as many threads as are counted")


@pytest.mark.parametrize("name", sorted(awkward.EXCEPTIONS))
def test_an_exception_that_is_hard_to_tell_of_is_told_of_all_the_same(shared, client, name):
    with pytest.raises(rpc.RemoteError):
        client.prepare(timeout=5).call("raise_awkwardly", name=name)
    until(lambda: client.call("miscounted") == 0, what="as many threads as are counted")


@pytest.mark.parametrize("shared", ["eventlet"], indirect=True)
@pytest.mark.parametrize(("method", "text"), [("time_out", "Timeout: 0.01 second"), ("kill_itself", "GreenletExit: b")])
def test_a_green_thread_that_is_timed_out_or_killed_is_answered(client, method, text):
    with pytest.raises(rpc.RemoteError, match=text):
        client.call(method)
    until(lambda: client.call("miscounted") == 0, what="as many threads as are counted")


@pytest.mark.parametrize("name", [5, None, b"add", ["add"]])
def test_a_method_s_name_is_text(client, name):
    with pytest.raises(rpc.BadArguments, match="called by its name"):
        client.call(name)
    assert client.call("add", a=1) == 2


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "_hidden",
        "__init__",
        "__class__",
        "stop",
        "init",
        "reset",
        "timers",
        "topic",
        "service",
        "tick",
        "computed",
        "helper",
        "gate",
        "instance_attribute",
        "echo.__call__",
        "periodic_tasks",
    ],
)
def test_only_public_methods_can_be_called(client, name):
    with pytest.raises(rpc.NoSuchMethod, match="add, anything, boom"):
        client.call(name)


@pytest.mark.parametrize(
    ("method", "args", "text"),
    [
        ("add", {}, "missing a required argument: 'a'"),
        ("add", {"a": 1, "c": 2}, "got an unexpected keyword argument 'c'"),
        ("with_context", {"value": 1, "context": {}}, "context is the call's own"),
        ("anything", {"self": 1}, "self is the call's own"),
        ("echo", {"value": {1, 2}}, "arguments cannot be sent: can not serialize 'set' object"),
        ("echo", {"value": 2**64}, "arguments cannot be sent"),
        ("echo", {"value": {(1, 2): 3}}, "arguments cannot be sent: nobody could read it"),
        ("echo", {"value": "x" * wire.MESSAGE_LIMIT}, "arguments cannot be sent: it takes"),
    ],
)
def test_bad_arguments_are_told_at_once(client, method, args, text):
    with pytest.raises(rpc.BadArguments, match=text):
        client.call(method, **args)
    assert client.call("add", a=1) == 2


def test_a_type_error_inside_a_method_is_its_own(client):
    with pytest.raises(rpc.RemoteError, match="TypeError"):
        client.call("add", a="x", b=1)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("unsendable", {}),
        ("unreadable", {}),
        ("failing_items", {}),
        ("ending_items", {}),
        ("large", {"size": wire.MESSAGE_LIMIT}),
    ],
)
def test_a_result_that_cannot_be_sent_is_an_error(client, method, args):
    with pytest.raises(rpc.RemoteError, match=f"Unsendable: the result of probe.{method} cannot be sent"):
        client.call(method, **args)
    assert client.call("add", a=1) == 2


def test_what_cannot_be_sent_costs_no_other_call(host, callers):
    worker, client = host.worker(), host.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    with pytest.raises(rpc.BadArguments):
        client.call("echo", value={(1, 2): 3})
    with pytest.raises(rpc.BadArguments):
        client.call(5)
    with pytest.raises(rpc.RemoteError):
        client.call("unreadable")
    worker.order("release")
    assert held.result(30) == "a"


def test_large_arguments_and_results(client):
    value = "x" * (wire.MESSAGE_LIMIT - 1000)
    assert client.call("echo", value=value) == value


def test_a_context_reaches_the_method_that_asks_for_it(client):
    value, context = client.prepare(context={"user": "ada"}).call("with_context", value=1)
    assert value == 1
    assert context.pop("user") == "ada"
    assert re.fullmatch("[0-9a-f]{16}-[0-9a-f]+", context.pop("request_id"))
    assert not context
    assert client.prepare(context={"request_id": "mine"}).call("with_context", value=1) == [1, {"request_id": "mine"}]


def test_an_unknown_topic_fails_at_once(host):
    started = time.monotonic()
    with pytest.raises(rpc.NoSuchTopic, match="nobody serves the topic 'nobody'"):
        host.client("nobody").call("add")
    assert time.monotonic() - started < 15  # of the 30 that a call may take


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "ö", "a b"])
def test_what_is_no_topic_is_refused(name):
    with pytest.raises(ForkdError, match="is no topic"):
        rpc.Client(name)


def test_callers_share_connections_and_get_their_own_answers(client, callers):
    def work(mine):
        return all(client.call("echo", value=[mine, i]) == [mine, i] for i in range(50))

    assert all(callers.map(work, range(16)))
    assert client.call("add", a=1) == 2


def test_a_long_call_holds_up_no_other(host, callers):
    worker, client = host.worker(), host.client()
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    assert client.call("add", a=1) == 2
    worker.order("release")
    assert held.result(30) == "a"


def test_a_client_starts_no_thread(shared, client):
    if not shared.is_local:
        client.call("add", a=1)  # to connect to a broker takes an event loop a thread
    before = threading.active_count()
    client.call("add", a=1)
    assert threading.active_count() == before


@pytest.mark.parametrize("shared", ["threads", "eventlet"], indirect=True)
def test_a_fork_gets_connections_of_its_own(client):
    assert client.call("add", a=1) == 2
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if client.call("add", a=41) == 42 else 2
        finally:
            os._exit(code)
    assert client.call("add", a=2) == 3
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.call("add", a=3) == 4


def test_a_worker_calls_another_topic(host):
    host.worker()
    host.worker(topic="other")
    assert host.client().call("relay", topic="other", method="echo", args={"value": "through"}) == "through"


GREEN = """
import eventlet; eventlet.monkey_patch()
import sys
from forkd import rpc
client = rpc.Client("probe", sys.argv[1])
pool = eventlet.GreenPool(50)  # a worker of 32 threads takes 64 calls
assert list(pool.imap(lambda i: client.call("echo", value=i), range(200))) == list(range(200))
large = "x" * 1000000
assert set(pool.imap(lambda i: client.call("echo", value=large), range(20))) == {large}
held = pool.spawn(client.call, "hold", name="a")
eventlet.sleep(0)  # until it waits for its answer, and leads
client.timeout = 0.1
try:
    client.call("hold", name="b")
except rpc.Timeout:
    print("late", flush=True)
print(held.wait())
"""


@pytest.mark.parametrize("host", ["threads", "amqp-eventlet"], indirect=True)
def test_green_threads_call_as_native_ones_do(host):
    worker = host.worker()
    script = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", GREEN, host.transport],
        cwd=ROOT,
        env={**os.environ, "FORKD_RUNTIME_DIR": str(host.runtime)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with script:
        assert script.stdout is not None
        assert script.stdout.readline() == "late\n"
        worker.order("release")
        assert script.stdout.readline() == "a\n"
    assert script.returncode == 0


def test_counters_tell_requests_errors_and_what_is_in_flight(host, callers):
    board = scoreboard.create(64)
    reader = scoreboard.Reader(board)
    worker, client = host.worker(board=board), host.client()
    os.close(board)
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    client.call("add", a=1)
    with pytest.raises(rpc.RemoteError):
        client.call("boom", text="x")
    with pytest.raises(rpc.NoSuchMethod):
        client.call("nope")
    found = until(lambda: (found := reader.read()).requests == 2 and found, what="two calls are counted")
    assert (found.requests, found.in_flight, found.errors) == (2, 1, 1)
    worker.order("release")
    held.result(30)
    until(lambda: reader.read().in_flight == 0, what="nothing is in flight")
    reader.close()


def test_without_a_launcher_the_service_makes_the_socket_and_removes_it(local):
    worker = local.start({"concurrency": local.concurrency, "topic": "alone"})
    client = local.client("alone")
    assert client.call("who") == worker.pid
    worker.stop()
    assert not list(local.runtime.glob("rpc/alone/*"))
    with pytest.raises(rpc.NoSuchTopic):
        client.call("who")
