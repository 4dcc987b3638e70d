"""Frames, methods, errors and names, each alone."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd import periodic_task, rpc
from forkd.errors import ForkdError, ProtocolError
from forkd.rpc import errors, methods, topics, wire

MESSAGES = st.lists(st.dictionaries(st.text(), st.integers(0, 9) | st.binary() | st.none()), max_size=5)


@given(MESSAGES, st.integers(1, 50))
def test_frames_come_out_whole_however_the_bytes_arrive(messages, size):
    messages = [message | {"type": "x"} for message in messages]
    data = b"".join(map(wire.frame, messages))
    frames = wire.Frames()
    found = [each for at in range(0, len(data), size) for each in frames.feed(data[at : at + size])]
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_protocol_error(data):
    with contextlib.suppress(ProtocolError):
        for message in wire.Frames().feed(data):
            wire.request(message)


class Elsewhere(dict):
    """As a mapping whose items come from elsewhere: it tells another length than it has."""

    def __len__(self):
        return super().__len__() + 1


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary())
    | st.builds(msgpack.Timestamp, st.integers(-(2**64), 2**64), st.integers(0, 10**9 - 1))
)
KEYS = st.recursive(LEAVES, lambda each: st.tuples(each) | st.frozensets(each, max_size=1), max_leaves=3)
VALUES = st.recursive(
    LEAVES | st.binary().map(lambda data: memoryview(data)[::2]),
    lambda each: (
        st.lists(each, max_size=3)
        | st.tuples(each, each)
        | st.dictionaries(KEYS, each, max_size=3)
        | st.dictionaries(KEYS, each, max_size=1).map(Elsewhere)
    ),
)


@given(VALUES)
def test_whatever_is_sent_can_be_read(value):
    with contextlib.suppress(wire.Unsendable):
        data = wire.frame({"type": "x", "value": value})
        assert len(wire.Frames().feed(data)) == 1


@pytest.mark.parametrize("inner", [0, [], {}, ()])
@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {0: value}, lambda value: (value,)])
def test_what_is_nested_so_deep_that_it_could_not_be_read_is_not_sent(inner, wrap):
    sent = 0
    value = inner
    with contextlib.suppress(wire.Unsendable):
        while data := wire.frame({"type": "x", "value": value}):
            assert len(wire.Frames().feed(data)) == 1
            value = wrap(value)
            sent += 1
    assert sent > 500


def test_an_announced_length_beyond_the_limit_is_refused_before_it_comes():
    with pytest.raises(ProtocolError, match="announces 8388609 bytes"):
        wire.Frames().feed((wire.MESSAGE_LIMIT + 1).to_bytes(4, "big"))


def serve(**members):
    server = type("Users", (rpc.Server,), members)("topic")
    return methods.public_methods(server, rpc.Server)


def test_parents_below_the_base_count_and_overridden_life_cycle_does_not():
    class Parent(rpc.Server):
        def inherited(self):
            """Do nothing."""

        def stop(self, graceful=True):
            """Do nothing."""

        @periodic_task
        def tick(self):
            """Do nothing."""

    class Child(Parent):
        def own(self):
            """Do nothing."""

        def tick(self):
            """Be no task any more."""

    assert sorted(methods.public_methods(Child("t"), rpc.Server)) == ["inherited", "own", "tick"]
    assert sorted(methods.public_methods(Parent("t"), rpc.Server)) == ["inherited"]


async def _coroutine(self):
    """Do nothing."""


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"later": _coroutine}, "is a coroutine function"),
        ({"give": lambda self, a, /: a}, "positional-only"),
        ({"topic": lambda self: 1}, "has an attribute of this name"),
    ],
)
def test_a_method_that_could_never_be_called_is_refused(members, text):
    with pytest.raises(ForkdError, match=text):
        serve(**members)


def test_errors_survive_pickling_and_unknown_kinds_are_still_errors():
    error = pickle.loads(pickle.dumps(errors.RemoteError("KeyError", "'x'", "trace")))
    assert (error.class_name, error.message, error.traceback) == ("KeyError", "'x'", "trace")
    assert str(errors.RemoteError("StopIteration", "")) == "StopIteration"
    assert type(errors.from_failure(["later", "a sentence", "", ""])) is errors.RpcError
    assert "malformed" in str(errors.from_failure(7))


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({"FORKD_RUNTIME_DIR": "/a", "RUNTIME_DIRECTORY": "/b"}, 0, "/a"),
        ({"RUNTIME_DIRECTORY": "/b:/d"}, 0, "/b"),
        ({"XDG_RUNTIME_DIR": "/c"}, 0, "/run/forkd"),
        ({"XDG_RUNTIME_DIR": "/c"}, 7, "/c/forkd"),
        ({}, 7, "/tmp/forkd-7"),
    ],
)
def test_the_runtime_directory_is_where_the_launcher_would_put_it(monkeypatch, environment, uid, expected):
    monkeypatch.setattr("os.geteuid", lambda: uid)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert topics.directory("t") == f"{expected}/rpc/t"


@pytest.mark.parametrize("transport", ["nonsense", "redis://host", "amqp:host", "amqp://a:hunter2@"])
def test_a_client_refuses_a_transport_that_is_not_there(transport):
    with pytest.raises(ForkdError, match="t: transport: expected") as caught:
        rpc.Client("t", transport)
    assert "hunter2" not in str(caught.value)


def test_a_client_imports_neither_servers_nor_engines():
    code = "import sys; from forkd.rpc.client import Client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"eventlet", "greenlet", "forkd.server", "forkd.service", "logging", "inspect", "asyncio"} & set(loaded)


def test_a_first_connection_to_a_broker_imports_nothing():
    """A fork in the midst of an import waits for it for ever."""
    code = (
        "import sys; from forkd import rpc; client = rpc.Client('a', 'amqp://127.0.0.1:1', timeout=0.1)\n"
        "before = set(sys.modules)\n"
        "try: client.call('b')\n"
        "except rpc.BrokerUnavailable: print(*set(sys.modules) - before)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
