"""Peers that do not keep to the protocol, or read nothing: they hurt their own connection and no other."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys

import pytest

from forkd import rpc, sockets
from forkd.rpc import wire
from tests.rpc.conftest import HERE, ROOT
from tests.waiting import until


class Raw:
    """A client's socket without a client."""

    def __init__(self, host, slot=0):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(f"{host.runtime}/rpc/probe/{slot}.sock")
        self._frames = wire.Frames()
        self._messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def within(self, seconds):
        """Have whatever waits wait no longer."""
        self.sock.settimeout(seconds)
        return self

    def read(self):
        """Return the next message; None at the end."""
        while not self._messages:
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:  # the worker closed it with something unread
                return None
            if not data:
                return None
            self._messages = self._frames.feed(data)
        return self._messages.pop(0)

    def call(self, number, method, **more):
        self.sock.sendall(wire.frame({"type": "call", "id": number, "method": method} | more))


def framed(body):
    return struct.pack(">I", len(body)) + body


def test_a_worker_says_hello(local):
    local.worker(slot=3)
    with Raw(local, slot=3) as raw:
        hello = raw.read()
    assert hello == {
        "type": "hello",
        "protocol": wire.PROTOCOL,
        "worker": f"{HERE}/probe/3/1",
        "idempotent": ["echo_again", "hold_again"],
        "crowded": False,
    }


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        b"\0" * 100,
        struct.pack(">I", wire.MESSAGE_LIMIT + 1),
        framed(b"\xc1"),
        framed(b"\x93\x01"),
        framed(b"\x91" * 5000),
        framed(b"\x81\x90\x01"),
        framed(b"\x01"),
        wire.frame({}),
        wire.frame({"type": 1}),
        wire.frame({"type": "hello", "protocol": 1}),
        wire.frame({"type": "call", "id": "1", "method": "count"}),
        wire.frame({"type": "call", "id": 1, "method": ["count"]}),
        wire.frame({"type": "call", "id": 1, "method": "echo", "args": [1]}),
        wire.frame({"type": "call", "id": 1, "method": "echo", "args": {1: 1}}),
        wire.frame({"type": "call", "id": 1, "method": "count", "seconds": "1"}),
        wire.frame({"type": "call", "id": 1, "method": "count", "context": 1}),
        wire.frame({"type": "call", "id": 1, "method": "count", "version": 1}),
    ],
)
def test_garbage_ends_its_own_connection(local, garbage):
    local.worker()
    with local.client() as client, Raw(local) as raw:
        assert client.call("add", a=1) == 2
        assert raw.read()["type"] == "hello"
        raw.sock.sendall(garbage)
        assert raw.read() is None
        assert client.call("add", a=1) == 2


def test_half_a_call_and_a_hasty_farewell_are_nothing(local):
    local.worker()
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        raw.sock.sendall(wire.frame({"type": "call", "id": 1, "method": "bump"})[:-1])
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        raw.call(1, "bump")  # nobody waits for its answer
    client = local.client()
    until(lambda: client.call("count") == 1, what="the whole call is made")


def test_a_context_travels_with_its_call(local):
    local.worker()
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        raw.call(1, "with_context", args={"value": 1}, context={"user": "ada"})
        assert raw.read()["result"] == [1, {"user": "ada"}]


def test_a_late_call_is_answered_without_being_made(local):
    local.worker()
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        raw.call(1, "bump", seconds=-1)
        assert raw.read()["error"][0] == "late"
        raw.call(2, "count")
        assert raw.read()["result"] == 0


def test_a_client_that_does_not_read_is_not_read_any_more(local):
    local.worker()
    client = local.client()
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        sent = flood(raw.sock, wire.frame({"type": "call", "id": 1, "method": "nope" * 100}))
        assert sent < 64 << 20
        assert client.call("add", a=1) == 2
        raw.sock.shutdown(socket.SHUT_WR)
        answers = 0
        while raw.read():
            answers += 1
    assert answers == sent // len(wire.frame({"type": "call", "id": 1, "method": "nope" * 100}))


def test_a_crowd_leaves_descriptors_for_the_methods(local):
    local.worker(files=128)
    client = local.client()
    assert client.call("add", a=1) == 2
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Raw(local)).read() for _ in range(100)]
        assert [said["type"] for said in crowd] == ["hello"] * 63 + ["refused"] * 37
        assert crowd[-1]["message"] == "64 clients are connected, which is the most"
        assert client.call("add", a=1) == 2
    until(lambda: _is_taken(local), what="there is room again")


def test_a_worker_that_is_full_costs_no_call_while_another_is_not(local):
    free, client = local.worker(slot=1), local.client()
    assert client.call("who") == free.pid
    local.worker(slot=0, files=128)
    with contextlib.ExitStack() as stack:
        while stack.enter_context(Raw(local)).read()["type"] != "refused":
            pass
        assert {client.call("who") for _ in range(20)} == {free.pid}


def _is_taken(local):
    with Raw(local) as raw:
        return raw.read()["type"] == "hello"


def test_a_worker_that_had_no_descriptor_left_takes_callers_again(local):
    local.worker(files=128)
    client = local.client()
    client.call("hoard")
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(Raw(local))
        while _is_greeted(raw):  # by a descriptor that a thread had, which has ended since
            raw = stack.enter_context(Raw(local))
        assert client.call("large", size=1000) == "x" * 1000
        client.call("release")
        assert raw.within(30).read()["type"] == "hello"


def _is_greeted(raw):
    try:
        return raw.within(0.5).read()["type"] == "hello"
    except TimeoutError:
        return False


def test_an_answer_that_there_is_no_descriptor_for_ends_its_connection_alone(local):
    local.worker(files=128)
    with local.client() as client, Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        client.call("hoard")
        raw.call(1, "large", args={"size": 4 << 20})
        until(lambda: _hung_up(raw.sock), what="the worker cuts it off")
        client.call("release")
        assert client.call("add", a=1) == 2


def flood(sock, frame):
    """Send frames until the other side has taken none for a second; return how many bytes it took."""
    sock.settimeout(1)
    sent = 0
    try:
        while sent < 128 << 20:
            offset = sent % len(frame)
            sent += sock.send(frame[offset:] + frame * 100)
    except TimeoutError:
        sock.settimeout(30)
    return sent


def test_a_client_that_takes_no_large_answers_is_cut_off_and_others_served(local):
    local.worker()
    client = local.client()
    with Raw(local) as raw:
        assert raw.read()["type"] == "hello"
        for number in range(24):
            raw.call(number, "large", args={"size": 4 << 20})
        until(lambda: _hung_up(raw.sock), timeout=30, what="the worker cuts it off")
        assert client.call("add", a=1) == 2


def _hung_up(sock):
    try:
        return not sock.send(b"")
    except OSError:
        return True


def test_a_worker_that_speaks_another_protocol_is_refused_with_a_sentence(local):
    with answering(local, {"type": "hello", "protocol": 2}), pytest.raises(rpc.RpcError, match="speaks RPC protocol 2"):
        local.client().call("add", a=1)


def test_a_refusal_reaches_the_caller(local):
    refusal = {"type": "refused", "message": "uid 7 may not call"}
    with answering(local, refusal), pytest.raises(rpc.NotAllowed, match="uid 7 may not call"):
        local.client().call("add", a=1)


class answering:  # noqa: N801 -- used as a function
    """A process in the worker's place, which says one thing to the first who connects."""

    def __init__(self, local, message):
        code = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.setblocking(True); c, _ = s.accept()"
        code += "; c.sendall(bytes.fromhex(sys.argv[2])); c.recv(1)"
        fd = local.listener().fileno()
        arguments = [sys.executable, "-c", code, str(fd), wire.frame(message).hex()]
        self.process = subprocess.Popen(arguments, pass_fds=[fd], cwd=ROOT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)


def test_a_stale_socket_beside_a_live_one_costs_no_call(local):
    worker, client = local.worker(), local.client()
    sockets.listen(f"unix:{local.runtime}/rpc/probe/9.sock", 1).close()
    assert {client.call("who") for _ in range(20)} == {worker.pid}
