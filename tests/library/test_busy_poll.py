"""Busy polling: it finds what comes at once without a sleep, and costs little where nothing does."""

from __future__ import annotations

import select
import socket

from forkd.busy_poll import BusyPoll

READY = [(3, select.POLLIN)]


class Poll:
    """Notes by which timeouts it is asked, and is ready at the look of this number, or when it may sleep."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []
        self.ready_at = 0

    def __call__(self, timeout: float | None) -> list[tuple[int, int]]:
        self.asked.append(timeout)
        return READY if timeout != 0 or len(self.asked) == self.ready_at else []

    def sleeps(self, busy_poll: BusyPoll, waits: int) -> list[bool]:
        """Wait so many times; return of each whether it has gone to sleep at once."""
        found = []
        for _ in range(waits):
            self.asked.clear()
            assert busy_poll(7) == READY
            found.append(self.asked == [7])
        return found


def test_what_is_ready_is_found_at_the_first_look() -> None:
    poll = Poll()
    poll.ready_at = 1
    assert BusyPoll(poll)(7) == READY
    assert poll.asked == [0]


def test_what_comes_within_a_moment_is_found_without_a_sleep() -> None:
    poll = Poll()
    poll.ready_at = 2
    assert BusyPoll(poll)(None) == READY
    assert poll.asked == [0, 0]


def test_who_may_not_wait_looks_once() -> None:
    poll = Poll()
    assert BusyPoll(poll)(0) == []
    assert poll.asked == [0]


def test_what_does_not_is_slept_for_as_long_as_is_wanted() -> None:
    poll = Poll()
    assert BusyPoll(poll)(7) == READY
    assert poll.asked[-1] == 7
    assert len(poll.asked) >= 3
    assert set(poll.asked[:-1]) == {0}


def test_after_looks_in_vain_it_rests_for_more_and_more_waits() -> None:
    poll = Poll()
    busy_poll = BusyPoll(poll)
    rests = [1, 3, 7, 15, 31, 63, 63]
    for rest in rests:
        assert poll.sleeps(busy_poll, 1 + rest) == [False, *[True] * rest]


def test_a_look_that_finds_something_ends_the_rests() -> None:
    poll = Poll()
    busy_poll = BusyPoll(poll)
    poll.sleeps(busy_poll, 1 + 1 + 1 + 3)
    poll.ready_at = 2
    assert poll.sleeps(busy_poll, 3) == [False] * 3
    poll.ready_at = 0
    assert poll.sleeps(busy_poll, 3) == [False, True, False]


def test_that_something_is_there_already_ends_no_rest() -> None:
    """It says nothing of how long one would wait: who is always busy would look in vain each time that it is not."""
    poll = Poll()
    busy_poll = BusyPoll(poll)
    poll.sleeps(busy_poll, 1 + 1)
    poll.ready_at = 1
    assert poll.sleeps(busy_poll, 1) == [False]
    poll.ready_at = 0
    assert poll.sleeps(busy_poll, 1 + 3) == [False, True, True, True]


def test_it_waits_for_a_socket_by_either_kind_of_poll() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as epoll:
        poll = select.poll()
        for poller in (epoll, poll):
            poller.register(ours, select.POLLIN)
            busy_poll = BusyPoll(poller.poll)
            assert busy_poll(0.001) == []
            theirs.send(b"x")
            assert busy_poll(None) == [(ours.fileno(), select.POLLIN)]
            assert ours.recv(1) == b"x"
