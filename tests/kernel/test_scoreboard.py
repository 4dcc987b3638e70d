"""Scoreboards: counts that add up over threads, and memory that no worker can turn against its readers."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd import scoreboard
from forkd.scoreboard import Board, Reader


@pytest.fixture
def shared():
    """A board and its reader."""
    fd = scoreboard.create(8)
    reader = Reader(fd)
    yield Board(fd), reader
    reader.close()


def test_what_a_worker_writes_is_read(shared):
    board, reader = shared
    row = board.row()
    row.started()
    row.started()
    row.finished(0.25, True)
    now = time.monotonic()
    board.beat()
    counters = reader.read()
    assert counters[1:] == (1, 1, 1, 0.25)
    assert now <= counters.heartbeat <= time.monotonic()


def test_counts_of_many_threads_add_up(shared):
    board, reader = shared

    def work():
        row = board.row()
        assert row is board.row()
        for _ in range(5000):
            row.started()
            row.finished(0.001, False)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters = reader.read()
    assert (counters.requests, counters.in_flight, counters.errors) == (30000, 0, 0)
    assert counters.busy == pytest.approx(30.0)


def test_rows_of_ended_threads_are_used_again_and_keep_their_counts(shared):
    board, reader = shared
    seen = set()
    for _ in range(1000):

        def work():
            board.row().started()
            seen.add(board.row().at)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert reader.read().in_flight == 1000
    assert len(board._rows) <= 126


def test_threads_without_a_row_share_one():
    board = Board()
    ready, done = threading.Barrier(201), threading.Event()

    def work():
        board.row().started()
        ready.wait()
        done.wait()
        board.row().finished(0.5, True)

    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    ready.wait()
    done.set()
    for thread in threads:
        thread.join()
    rows = board._words[4:].tolist()
    assert [sum(rows[word::4]) for word in range(4)] == [200, 200, 200, 100 * 10**9]


def test_size_is_sealed():
    fd = scoreboard.create(8)
    reader = Reader(fd)
    for size in (0, 1, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert reader.read().requests == 0
    reader.close()
    os.close(fd)


@given(st.binary(max_size=4096))
def test_any_bytes_are_counters(data):
    with scoreboard.created(8) as fd:
        reader = Reader(fd)
        with mmap.mmap(fd, 0) as memory:
            memory[: len(data)] = data
        counters = reader.read()
        reader.close()
    assert counters.in_flight >= 0
    assert counters.busy >= 0


def test_room_for_as_many_rows_as_asked():
    with scoreboard.created(1000) as fd:
        assert os.fstat(fd).st_size >= 1000 * 32
