"""How long a broker may keep a call, by how long such calls took."""

from __future__ import annotations

import collections
import heapq
import math

import pytest

from forkd.rpc.transports.amqp import patience


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("forkd.rpc.transports.amqp.patience.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("took", "had", "kept"),
    [
        ([], 10, 8.75),
        ([1, 5, 2], 10, 8.75),
        ([1, 5.1, 2], 10, 5),  # one took long
        ([10], 10, 5),  # or was not answered at all
        ([1000], math.inf, 8.75),  # however long, if it may
    ],
)
def test_what_is_left_of_a_deadline(clock, took, had, kept):
    mine = patience.Patience()
    for seconds in took:
        mine.note(seconds, had)
    assert mine.kept(10) == pytest.approx(kept)
    assert mine.kept(math.inf) == math.inf


def test_what_is_long_ago_counts_no_more(clock):
    mine = patience.Patience()
    mine.note(9, 10)
    clock[0] += 14
    mine.note(1, 10)
    assert mine.kept(10) == pytest.approx(5)
    clock[0] += 2
    assert mine.kept(10) == pytest.approx(8.75)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, b"1500"), (0, b"0"), (-1, b"0"), (1e9, b"4294967295"), (math.inf, b"")]
)
def test_a_time_in_the_words_of_a_broker(seconds, text):
    assert patience.expiration(seconds) == text


@pytest.mark.parametrize("rate", [1.5, 2, 4, 20])
def test_hardly_anything_that_is_begun_is_late_however_many_times_too_much_comes(clock, rate):
    """A call takes 10 ms of a worker and 25 ms beside, and has 200 ms; in the queue they stand by what they are due."""
    mine, late = patience.Patience(), 0
    queue: collections.deque[tuple[float, float]] = collections.deque()  # until when it has time, and is kept
    heard: list[tuple[float, float]] = []  # when, and how long it took
    came, began = 0, clock[0]
    for turn in range(1000):
        clock[0] = now = began + turn * 0.01
        while heard and heard[0][0] <= now:
            mine.note(heapq.heappop(heard)[1], 0.2)
        for _ in range(int(turn * rate) - came):
            queue.append((now + 0.2, now + mine.kept(0.2)))
            came += 1
        while queue and queue[0][1] < now:
            heapq.heappush(heard, (queue.popleft()[0], 0.2))
        if queue:
            due = queue.popleft()[0]
            late += now + 0.035 > due
            ends = min(due, now + 0.035)
            heapq.heappush(heard, (ends, ends - due + 0.2))
    assert late < 20
