"""What a connection has not taken yet: the order, what leaves together, what is taken back."""

from __future__ import annotations

import socket

import pytest

from forkd.rpc.transports.local.unsent import Unsent


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def everything(unsent, sock):
    """Read until all is written and read."""
    got = bytearray()
    while not unsent.write():
        got += sock.recv(1 << 20)
    try:
        while True:
            got += sock.recv(1 << 20)
    except BlockingIOError:
        return bytes(got)


def test_what_waits_leaves_whole_and_in_order(pair):
    ours, theirs = pair
    unsent = Unsent(ours)
    frames = [bytes([65 + number]) * size for number, size in enumerate((10, 3_000_000, 10, 70_000, 1, 2_000_000))]
    for number, frame in enumerate(frames):
        unsent.add(number, frame)
    assert unsent
    assert everything(unsent, theirs) == b"".join(frames)
    assert not unsent
    assert unsent.numbers() == []


def test_what_is_removed_does_not_leave_but_what_has_begun_does(pair):
    ours, theirs = pair
    unsent = Unsent(ours)
    unsent.add(1, b"a" * 3_000_000)
    unsent.add(2, b"b" * 10)
    unsent.add(3, b"c" * 10)
    assert not unsent.write()
    assert unsent.numbers() == [1, 2, 3]
    for number in (1, 2):
        unsent.remove(number)
    assert unsent.numbers() == [1, 3]
    assert everything(unsent, theirs) == b"a" * 3_000_000 + b"c" * 10


def test_only_what_was_not_written_whole_is_told(pair):
    ours, theirs = pair
    unsent = Unsent(ours)
    unsent.add(1, b"a" * 10)
    unsent.add(2, b"b" * 3_000_000)
    assert not unsent.write()
    assert unsent.numbers() == [2]
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        unsent.write()
    unsent.add(3, b"c")
    assert unsent.give_up() == [2, 3]
    assert unsent.write(), "nothing is left to write"
    assert not unsent
