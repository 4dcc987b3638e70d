"""A signal's handler that raises between a system call and the note of what it did: nothing is sent or read askew."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from forkd import rpc
from forkd.rpc import wire
from forkd.rpc.errors import Moved, WorkerLost
from forkd.rpc.transports.local.connection import Connection
from tests.rpc.conftest import Given


class Interrupted:
    """A socket; what is done by the named call is done, and then a handler raises."""

    def __init__(self, sock, name):
        self._sock = sock
        self._name = name

    def __getattr__(self, name):
        call = getattr(self._sock, name)
        if name != self._name:
            return call

        def interrupted(*args):
            call(*args)
            raise Given

        return interrupted


@pytest.fixture
def pair():
    """Yield the client's connection and the worker's end of it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield Connection(ours, "a"), theirs


def call(number):
    return wire.frame({"type": "call", "id": number, "method": "bump"})


def test_what_may_have_left_does_not_leave_again(pair):
    connection, theirs = pair
    deadline = time.monotonic() + 10
    other = connection.begin(1, call(1), deadline)
    connection.unsent._sock = Interrupted(connection.sock, "send")
    with pytest.raises(Given):
        connection.begin(2, call(2), deadline)
    connection.unsent._sock = connection.sock
    with pytest.raises(Moved):
        connection.begin(3, call(3), deadline)
    with pytest.raises(WorkerLost, match="a signal's handler raised"):
        connection.answer(other, deadline)
    assert theirs.recv(1000) + theirs.recv(1000) == call(1) + call(2)
    assert theirs.recv(1000) == b""
    assert connection.sock.fileno() == -1


def test_what_was_read_and_is_lost_leaves_nobody_waiting(pair):
    connection, theirs = pair
    deadline = time.monotonic() + 10
    boxes = [connection.begin(number, call(number), deadline) for number in (1, 2)]
    theirs.sendall(wire.frame({"type": "answer", "id": 2, "result": "a"})[:-1])
    sock = connection.sock
    connection.sock = Interrupted(sock, "recv")
    with pytest.raises(Given):
        connection.answer(boxes[0], deadline)
    connection.sock = sock
    with pytest.raises(WorkerLost, match="a signal's handler raised"):
        connection.answer(boxes[1], deadline)
    assert connection.sock.fileno() == -1


@pytest.mark.parametrize("ask", [lambda client: client.call("who"), lambda client: client.fanout("who")])
def test_a_search_that_was_begun_and_is_not_known_of_ends(short_tmp, callers, ask):
    with rpc.Client("probe", runtime_dir=str(short_tmp)) as client:
        transport: Any = client._link.transport
        search = transport._connections
        acquire = search._acquire_search

        def interrupted(*args, **more):
            acquire(*args, **more)
            raise Given

        search._acquire_search = interrupted
        with pytest.raises(Given):
            ask(client)
        search._acquire_search = acquire
        with pytest.raises(rpc.NoSuchTopic):
            callers.submit(ask, client).result(10)
