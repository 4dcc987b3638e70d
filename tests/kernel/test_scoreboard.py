"""Scoreboards: counts that add up over threads, and memory that no worker can turn against its readers."""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd import channel, scoreboard, tallies
from forkd.errors import ProtocolError
from forkd.scoreboard import Board, Counters, Reader
from forkd.tallies import MOST, OTHER, SIZE, Tally


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
    assert counters[1:] == (1, 1, 1, 0.25, ())
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
    rows = board._words[8 : 8 + 126 * 4].tolist()
    assert [sum(rows[word::4]) for word in range(4)] == [200, 200, 200, 100 * 10**9]


_PATCHED = """
import eventlet
eventlet.monkey_patch()
import os, threading
from forkd.scoreboard import Board, Reader, create
fd = create(8)
reader, board = Reader(os.dup(fd)), Board(fd)
def work():
    row = board.row()
    row.started()
    eventlet.sleep(0)
    row.finished(0.001, False)
for _ in range(3):
    pool = [eventlet.spawn(work) for _ in range(300)]
    for thread in pool:
        thread.wait()
assert reader.read()[1:4] == (900, 0, 0), reader.read()
"""


def test_counts_add_up_where_eventlet_was_there_first():
    subprocess.run([sys.executable, "-c", _PATCHED], check=True, timeout=60)


def test_whoever_counts_a_request_as_done_is_told():
    told = []
    board = Board(None, lambda: told.append(threading.get_ident()))
    row = board.row()
    row.started()
    assert told == []
    row.finished(0.1, True)
    assert told == [threading.get_ident()]


def test_what_is_dumped_is_taken_once_and_no_number():
    with scoreboard.created(8) as fd:
        reader = Reader(fd)
        assert reader.take_dumped() == ""
        start = os.lseek(fd, -scoreboard.TAIL, os.SEEK_END)
        os.write(fd, b"Thread 1")
        assert reader.take_dumped() == "Thread 1"
        os.write(fd, b"\nThread \xff")
        assert reader.take_dumped() == "\nThread \ufffd"
        assert reader.take_dumped() == ""
        os.pwrite(fd, bytes(scoreboard.TAIL), start)
        assert reader.take_dumped() == ""
        os.pwrite(fd, b"Thread 2", start)
        assert reader.take_dumped() == "Thread 2"
        assert reader.take_dumped() == ""
        reader.note_emptied()  # and written to by the same once more
        assert reader.take_dumped() == "Thread 2"
        assert reader.read() == scoreboard.NOTHING
        reader.close()


def test_a_dump_ends_with_its_board():
    with scoreboard.created(8) as fd:
        os.lseek(fd, -scoreboard.TAIL, os.SEEK_END)
        assert os.write(fd, b"x" * 100_000) == scoreboard.TAIL
        reader = Reader(fd)
        assert reader.take_dumped() == "x" * scoreboard.TAIL
        reader.close()


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


def test_what_is_counted_by_name_is_read_by_name(shared):
    board, reader = shared
    nightly, hourly = board.record("task", "nightly"), board.record("task", "hourly")
    nightly.add("ok", 3)
    nightly.add("failed")
    hourly.note(1.5, 0.25)
    hourly.add("skipped", 7)
    board.row().started()
    board.record("task", "nightly").add("late")
    assert board.names() == [("task", "nightly"), ("task", "hourly")]
    counters = reader.read(board.names())
    assert counters.tallies == (
        Tally("task", "nightly", (3, 1, 1, 0, 0, 0)),
        Tally("task", "hourly", (0, 0, 0, 7, 1_500_000_000, 250_000_000)),
    )
    assert (counters.in_flight, counters.requests) == (1, 0), "rows and records are apart"


def test_any_thread_may_count_by_name(shared):
    board, reader = shared
    record = board.record("task", "nightly")
    threads = [threading.Thread(target=lambda: [record.add("ok") for _ in range(5000)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.read(board.names()).tallies[0].values[0] == 30000


def test_names_for_which_there_is_no_room_count_as_other(shared):
    board, reader = shared
    for number in range(SIZE):
        board.record("task", f"task{number}").add("ok")
    counters = reader.read(tallies.names([list(name) for name in board.names()]))
    assert counters.tallies[-1].name == OTHER
    assert counters.tallies[-1].values[0] > 1
    assert sum(tally.values[0] for tally in counters.tallies) == SIZE


def test_any_names_of_a_board_fit_a_message():
    board = Board()
    for number in range(SIZE):
        board.record("task", f"{number}" + "\U00010330" * 1000)
    sender, receiver = channel.pair()
    sender.send({"type": "ready", "counters": board.names()})
    message = receiver.receive()
    assert message is not None
    assert len(tallies.names(message.body["counters"])) == len(board.names()) > 50
    sender.close()
    receiver.close()


@pytest.mark.parametrize(
    "given",
    [
        "task",
        ["task"],
        [["task"]],
        [["task", "nightly", "ok"]],
        [["task", 5]],
        [[["task"], "nightly"]],
        [["chore", "nightly"]],
        [["task", "x" * 1000]],
        [["task", str(number)] for number in range(SIZE)],
        {"task": "nightly"},
        None,
    ],
)
def test_names_that_no_board_has_are_refused(given):
    with pytest.raises(ProtocolError, match="its counters"):
        tallies.names(given)


def test_names_are_fit_to_print():
    assert tallies.names([["task", "half a \ud800 pair"]]) == (("task", "half a ? pair"),)


def test_totals_add_up_and_of_the_latest_the_later_stands():
    before = Counters(5.0, 10, 0, 1, 0.5, (Tally("task", "nightly", (1, 2, 3, 4, 200, 9)),))
    after = Counters(4.0, 1, 2, 3, 0.25, (Tally("task", "nightly", (1, 1, 1, 1, 300, 7)), Tally("task", "b", (0,) * 6)))
    summed = (Tally("task", "nightly", (2, 3, 4, 5, 300, 7)), Tally("task", "b", (0,) * 6))
    assert scoreboard.total([before, after]) == Counters(5.0, 11, 2, 4, 0.75, summed)
    assert scoreboard.total([scoreboard.NOTHING, before]) == before


def test_totals_of_ever_new_names_do_not_grow():
    found: tuple[Tally, ...] = ()
    for number in range(10 * MOST):
        found = tallies.merged([*found, Tally("task", str(number), (1, 0, 0, 0, 0, 0))])
    assert len(found) == MOST + 1
    assert found[-1] == Tally("task", OTHER, (9 * MOST, 0, 0, 0, 0, 0))


@given(st.binary(max_size=3 * 4096))
def test_any_bytes_are_counters(data):
    with scoreboard.created(8) as fd:
        reader = Reader(fd)
        with mmap.mmap(fd, 0) as memory:
            size = min(len(data), len(memory))
            memory[:size] = data[:size]
        counters = reader.read([("task", "nightly")])
        reader.close()
    assert counters.in_flight >= 0
    assert len(counters.tallies[0].values) == 6
    assert counters.busy >= 0


def test_room_for_as_many_rows_as_asked():
    with scoreboard.created(1000) as fd:
        assert os.fstat(fd).st_size >= 1000 * 32
