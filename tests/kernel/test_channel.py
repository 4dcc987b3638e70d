"""Channels between two ends of one process: what they carry, and what they refuse."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd import channel
from forkd.errors import ChannelClosed, ProtocolError


@pytest.fixture
def ends():
    ends = channel.pair()
    yield ends
    for end in ends:
        end.close()


def test_messages_arrive_whole_and_in_order(ends):
    upper, lower = ends
    assert upper.receive() is None
    for number in range(3):
        lower.send({"type": "count", "number": number})
    got = [upper.receive() for _ in range(3)]
    assert [message.body["number"] for message in got] == [0, 1, 2]
    assert {message.pid for message in got} == {os.getpid()}
    assert upper.receive() is None


def test_the_sender_is_known_by_the_kernel(ends):
    upper, lower = ends
    pid = os.fork()
    if pid == 0:
        lower.send({"type": "spawned", "pid": 1})
        os._exit(0)
    os.waitpid(pid, 0)
    assert upper.receive().pid == pid


def test_last_words_of_an_end_that_has_not_read_everything(ends):
    upper, lower = ends
    upper.send({"type": "spec"})
    lower.send({"type": "failed"})
    lower.close()
    assert upper.receive().body == {"type": "failed"}
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            upper.receive()


def test_descriptors_travel_down(ends):
    upper, lower = ends
    read, write = os.pipe()
    upper.send({"type": "fork"}, [read, write])
    message = lower.receive()
    assert message.pid == 0
    os.write(message.fds[1], b"x")
    assert os.read(read, 1) == b"x"
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    for fd in (read, write, *message.fds):
        os.close(fd)


def test_descriptors_do_not_travel_up(ends):
    upper, lower = ends
    before = len(os.listdir("/proc/self/fd"))
    lower.send({"type": "ready"}, [0, 1, 2])
    with pytest.raises(ProtocolError):
        upper.receive()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_is_noticed_again_and_again(ends):
    upper, lower = ends
    lower.send({"type": "last"})
    lower.close()
    assert upper.receive().body == {"type": "last"}
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            upper.receive()
        with pytest.raises(ChannelClosed):
            upper.send({"type": "more"})


def test_a_full_queue_does_not_block(ends):
    upper, _ = ends

    def send_for_ever():
        while True:
            upper.send({"type": "x" * 1000})

    with pytest.raises(ProtocolError, match="does not read"):
        send_for_ever()


def test_what_is_too_big_is_not_sent(ends):
    with pytest.raises(ProtocolError, match="too big"):
        ends[1].send({"type": "x" * channel.MESSAGE_LIMIT})
    with pytest.raises(ProtocolError, match="too big"):
        ends[0].send({"type": "fork"}, [0] * (channel.FDS_LIMIT + 1))


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    upper, lower = channel.pair()
    lower._sock.send(data)
    try:
        assert isinstance(upper.receive().body["type"], str)
    except ProtocolError:
        pass
    finally:
        upper.close()
        lower.close()


@pytest.mark.parametrize(
    "data", [b"[" * 60000, b'{"type": ' * 5000, b"9" * 60000, b"x" * 70000, b'{"type": 1}', b"null"]
)
def test_garbage_is_refused(ends, data):
    ends[1]._sock.send(data)
    with pytest.raises(ProtocolError):
        ends[0].receive()


@given(st.text(), st.text())
def test_failures_always_fit(error, traceback):
    for text in (traceback, traceback * 100_000):
        assert len(json.dumps(channel.failed(error * 1000, text))) <= channel.MESSAGE_LIMIT


def test_the_end_of_a_traceback_is_kept():
    assert channel.failed("", "first\n" * 50_000 + "last")["traceback"].endswith("first\nlast")
