"""How long a broker may keep a call, by how long such calls took."""

from __future__ import annotations

import math

import pytest

from forkd.rpc.transports.amqp import patience


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("forkd.rpc.transports.amqp.patience.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("took", "left", "kept"),
    [
        ([], 10, 10),  # nobody knows
        ([0.1], 10, 9.6),
        ([5, 0.1, 7], 10, 9.6),  # by the shortest
        ([2], 10, 5),  # no less than half
        ([100], 10, 5),
        ([1], math.inf, math.inf),
    ],
)
def test_what_is_left_of_a_deadline(clock, took, left, kept):
    mine = patience.Patience()
    for seconds in took:
        mine.note(seconds)
    assert mine.kept(left) == pytest.approx(kept)


def test_what_is_long_ago_counts_no_more(clock):
    mine = patience.Patience()
    mine.note(0.1)
    clock[0] += 6
    mine.note(1)
    assert mine.kept(10) == pytest.approx(9.6)
    clock[0] += 6
    mine.note(1)
    assert mine.kept(10) == pytest.approx(6)
    clock[0] += 60
    mine.note(0.5)
    assert mine.kept(10) == pytest.approx(8)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, b"1500"), (0, b"0"), (-1, b"0"), (1e9, b"4294967295"), (math.inf, b"")]
)
def test_a_time_in_the_words_of_a_broker(seconds, text):
    assert patience.expiration(seconds) == text


def test_a_queue_that_more_comes_to_than_can_be_answered_settles(clock):
    """Each call waits as long as it is kept, then takes 10 ms: the answers are in time, and stay so."""
    mine = patience.Patience()
    mine.note(0.01)
    for _ in range(2000):
        clock[0] += 0.05
        took = mine.kept(0.2) + 0.01
        assert took < 0.2
        mine.note(took)
