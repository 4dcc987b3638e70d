"""Signs of life that a worker gives or does not, and its word that it has done enough."""

from __future__ import annotations

import signal

import pytest

from forkd.core.commands import Look
from forkd.core.events import Draining, Exited, Ready, Recycle, Started
from forkd.core.spec import RecycleSpec
from tests.waiting import until

COUNTS = """
    class S(forkd.Server):
        def start(self):
            for _ in range(3):
                self.service.thread_group.add_thread(self.work)
        def work(self):
            for _ in range(1000):
                row = self.service.board.row()
                row.started()
                self.service.thread_group.sleep(0)
                row.finished(0.0, False)
            say("done")
        def reset(self):
            say("serves on")
"""
GROWS = """
    class S(forkd.Server):
        def start(self):
            self.own = bytearray(64 << 20)
        def reset(self):
            say("serves on")
"""


def beat_at(yard, worker):
    yard.pump()
    (seen,) = yard.kernel.perform(Look(worker))
    return seen.beat_at


def until_beats(yard, worker, times):
    """Wait for so many signs of life."""
    seen = {beat_at(yard, worker)}

    def beaten():
        seen.add(beat_at(yard, worker))
        return len(seen) > times

    until(beaten, 30, "signs of life")


def test_it_beats_while_no_thread_is_left(yard, concurrency):
    source = """
        class S(forkd.Server):
            def start(self):
                self.service.thread_group.add_thread(self.service.thread_group.sleep, 1000)
    """
    zygote = yard.zygote(yard.spec(source, concurrency=concurrency, threads=1, hang_timeout=0.2))
    until_beats(yard, yard.worker(zygote), 10)


def test_it_beats_each_second_where_nobody_listens(yard, concurrency):
    zygote = yard.zygote(yard.spec(COUNTS, concurrency=concurrency, hang_timeout=0.0))
    until_beats(yard, yard.worker(zygote), 2)


@pytest.mark.parametrize("waits", ["time.sleep(1000)", "while True: pass"])
def test_a_blocked_hub_beats_no_more(yard, waits):
    source = f"""
        import eventlet.patcher
        time = eventlet.patcher.original("time")
        class S(forkd.Server):
            def reset(self):
                say("blocked")
                {waits}
    """
    zygote = yard.zygote(yard.spec(source, concurrency="eventlet", hang_timeout=0.04))
    worker, other = yard.worker(zygote), yard.worker(zygote, 1)
    until_beats(yard, worker, 2)
    yard.signal(worker, signal.SIGHUP)
    assert yard.line() == "blocked"
    last = beat_at(yard, worker)
    until_beats(yard, other, 10)
    assert beat_at(yard, worker) == last


def test_requests_are_counted_in_all_threads_and_told_of_once(yard, concurrency):
    recycle = RecycleSpec(requests=1500, jitter=0.0)
    worker = yard.worker(yard.zygote(yard.spec(COUNTS, concurrency=concurrency, recycle=recycle)))
    assert [yard.line(), yard.line(), yard.line()] == ["done"] * 3
    yard.signal(worker, signal.SIGHUP)
    assert yard.line() == "serves on"
    assert yard.until(Recycle, worker).reason == "served 1,500 requests"
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0
    assert yard.kinds(worker) == [Started, Ready, Recycle, Draining, Exited]


def test_what_was_served_before_it_was_ready_counts_too(yard, concurrency):
    source = """
        class S(forkd.Server):
            def start(self):
                row = self.service.board.row()
                for _ in range(2):
                    row.started()
                    row.finished(0.0, False)
    """
    zygote = yard.zygote(yard.spec(source, concurrency=concurrency, recycle=RecycleSpec(requests=2)))
    worker = yard.worker(zygote)
    assert yard.until(Recycle, worker).reason == "served 2 requests"
    assert yard.kinds(worker) == [Started, Ready, Recycle]


def test_workers_born_together_do_not_end_together(yard):
    recycle = RecycleSpec(requests=2000, jitter=0.5)
    zygote = yard.zygote(yard.spec(COUNTS, recycle=recycle))
    workers = [yard.worker(zygote, slot) for slot in range(5)]
    counts = [int(yard.until(Recycle, id).reason.split()[1].replace(",", "")) for id in workers]
    assert len(set(counts)) > 1
    assert all(1000 <= count <= 2000 for count in counts)


def test_memory_of_its_own_is_told_of_once(yard, concurrency):
    recycle = RecycleSpec(memory=60 << 20)
    worker = yard.worker(yard.zygote(yard.spec(GROWS, concurrency=concurrency, recycle=recycle, hang_timeout=0.04)))
    said, used, unit = yard.until(Recycle, worker).reason.partition(", ")[0].split()
    assert (said, unit) == ("uses", "MiB")
    assert 64 <= int(used) < 120
    until_beats(yard, worker, 5)
    assert yard.kinds(worker) == [Started, Ready, Recycle]


def test_memory_that_all_share_is_counted_once(yard):
    source = """
        shared = b"x" * (200 << 20)
        class S(forkd.Server): pass
    """
    recycle = RecycleSpec(memory=170 << 20)
    worker = yard.worker(yard.zygote(yard.spec(source, recycle=recycle, hang_timeout=0.04)))
    until_beats(yard, worker, 20)
    assert yard.kinds(worker) == [Started, Ready]
