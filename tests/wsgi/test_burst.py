"""Sends to many sockets by one system call: what came of each, and nothing sent twice or to somebody else."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket

import pytest

from forkd.wsgi import ring
from forkd.wsgi.burst import MOST, Burst


@pytest.fixture
def pairs():
    """Pairs of sockets, of which the first does not block."""
    pairs = [socket.socketpair() for _ in range(MOST + 2)]
    for ours, _ in pairs:
        ours.setblocking(False)
    yield pairs
    for pair in pairs:
        for sock in pair:
            sock.close()


def by_tcp():
    """Return both ends of a connection, of which the first does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    return ours, other


def fill(sock):
    try:
        while True:
            sock.send(b"x" * 10000)
    except BlockingIOError:
        pass


def test_each_socket_gets_its_own_bytes(pairs):
    sender = Burst()
    for turn in range(30):
        texts = [f"{turn}: {number}".encode() + bytes(number) for number in range(5)]
        what = [(ours.fileno(), text) for (ours, _), text in zip(pairs, texts, strict=False)]
        assert sender.send(what) == {at: len(text) for at, text in enumerate(texts)}
        assert [other.recv(100) for _, other in pairs[:5]] == texts


def test_no_more_are_sent_than_may_be(pairs):
    outcomes = Burst().send([(ours.fileno(), b"text") for ours, _ in pairs])
    assert outcomes == dict.fromkeys(range(MOST), 4)
    for _, other in pairs[MOST:]:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_one_that_takes_nothing_or_only_a_part_or_is_gone_holds_up_no_other(pairs):
    (full, _), (lone, gone) = pairs[:2]
    fill(full)
    gone.close()
    slow, reader = by_tcp()
    much = bytes(20_000_000)
    what = [(full.fileno(), b"a"), (lone.fileno(), b"b"), (slow.fileno(), much), (pairs[2][0].fileno(), b"d")]
    with slow, reader:
        outcomes = Burst().send(what)
        assert 0 < outcomes.pop(2) < len(much)
    assert outcomes == {0: -errno.EAGAIN, 1: -errno.EPIPE, 3: 1}
    assert pairs[2][1].recv(10) == b"d"


def test_one_that_is_closed_holds_up_no_other(pairs):
    pairs[1][0].close()
    what = [(ours.fileno(), b"text") for ours, _ in pairs[:3]]
    assert what[1][0] == -1
    assert Burst().send(what) == {0: 4, 1: -errno.EBADF, 2: 4}
    assert [pairs[at][1].recv(10) for at in (0, 2)] == [b"text", b"text"]


def test_the_child_of_a_fork_sends_nothing_by_it(pairs):
    sender = Burst()
    assert sender.send([(pairs[0][0].fileno(), b"parent")]) == {0: 6}
    child = os.fork()
    if child == 0:
        os._exit(sender.send([(pairs[0][0].fileno(), b"child")]) != {})
    assert os.waitpid(child, 0)[1] == 0
    assert sender.send([(pairs[0][0].fileno(), b" again")]) == {0: 6}
    assert pairs[0][1].recv(100) == b"parent again"


def test_where_a_process_may_not_have_it_nothing_is_sent(pairs, monkeypatch):
    monkeypatch.setattr(ring, "_SETUP", -1)
    assert Burst().send([(pairs[0][0].fileno(), b"text")]) == {}


def test_where_no_descriptor_is_left_nothing_is_sent(pairs):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        sender = Burst()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sender.send([(pairs[0][0].fileno(), b"text")]) == {}


def test_once_the_kernel_has_not_taken_all_none_of_it_is_sent_later(pairs, monkeypatch):
    sender = Burst()
    with monkeypatch.context() as patch:
        patch.setattr(ring, "_ENTER", -1)
        assert sender.send([(pairs[0][0].fileno(), b"text")]) == {}
    assert sender.send([(pairs[1][0].fileno(), b"text")]) == {}
    for _, other in pairs[:2]:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_it_gives_back_the_descriptors_that_it_takes(pairs):
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    sender = Burst()
    assert sender.send([(pairs[0][0].fileno(), b"text")]) == {0: 4}
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 3
    del sender
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
