"""Tasks of the scope `service`: one worker of a host runs them at a time, and the next one goes on where it left off."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkd import Server, Service, claim, periodic_task, threadgroup
from forkd.claim import Claim, ClaimedSchedule
from forkd.errors import ForkdError
from forkd.service import Inheritance, WorkerIdentity
from forkd.threadgroup.cron import CronSchedule
from forkd.threadgroup.schedules import FixedSchedule, JitteredSchedule, Schedule
from tests.library.logs import logged

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600.0
CODE = """
import os, subprocess, sys
from forkd.claim import Claim
mine = Claim("shop", "task")
got = mine.take()
if got:
    mine.note()
{then}
print(got, flush=True)
sys.stdin.read()
"""
FORK = """
ready, said = os.pipe()
child = os.fork()
if child == 0:
    os.write(said, b".")
    os.read(0, 1)
    os._exit(0)
os.read(ready, 1)
print(child, end=" ")
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch) -> Iterator[Path]:
    """Be a process that has a launcher, and yield where claims are."""
    monkeypatch.setenv("FORKD_RUNTIME_DIR", str(tmp_path))
    yield Path(tmp_path) / "periodic" / str(os.geteuid())
    for each in list(claim._all):
        each.close()


def written(folder: Path, ago: float) -> None:
    """Have the task been started so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.task.lock").write_text(f"{time.time() - ago:017.6f}\n")


class Worker:
    """Another process that has a claim on the task, if it can get it."""

    def __init__(self, *, then: str = "") -> None:
        code = CODE.format(then=then)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.told = self.process.stdout.readline().split()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_one_process_has_it_at_a_time_until_it_dies(runtime):
    holder, other = Worker(), Claim("shop", "task")
    assert holder.told == ["True"]
    assert not other.take()
    assert not other.held
    assert other.age() == pytest.approx(0, abs=5)
    assert Claim("shop", "another").take()
    assert Claim("billing", "task").take()
    holder.kill()
    assert other.take()
    assert other.take(), "it has it"
    other.close()
    last = Worker()
    assert last.told == ["True"], "given up"
    last.kill()


@pytest.mark.parametrize(
    "then",
    [
        FORK,
        "print(subprocess.Popen(['cat'], stdout=subprocess.DEVNULL).pid, end=' ')",
        "print(subprocess.Popen(['cat'], stdout=subprocess.DEVNULL, close_fds=False).pid, end=' ')",
    ],
    ids=["fork", "program", "program with all descriptors"],
)
def test_what_the_holder_starts_does_not_hold_it_on(then):
    holder, other = Worker(then=then), Claim("shop", "task")
    child, got = holder.told
    assert got == "True"
    pidfd = os.pidfd_open(int(child))
    assert not other.take()
    holder.process.kill()
    holder.process.wait()
    assert other.take()
    assert select.select([pidfd], [], [], 0)[0] == [], "it lives on"
    os.close(pidfd)
    holder.process.communicate()


def test_two_claims_of_one_process_exclude_each_other_too():
    one, other = Claim("shop", "task"), Claim("shop", "task")
    assert one.take()
    assert not other.take()


def test_a_file_that_somebody_removed_makes_no_two_holders(runtime, caplog):
    one, other = Claim("shop", "task"), Claim("shop", "task")
    assert one.take()
    (runtime / "shop.task.lock").unlink()
    assert other.take(), "this is the file by now"
    assert not one.take()
    (runtime / "shop.task.lock").unlink()
    runtime.rmdir()
    assert one.take()
    assert caplog.records == []


def test_the_file_is_for_its_user_alone(runtime):
    Claim("shop", "task")
    assert (runtime / "shop.task.lock").stat().st_mode & 0o777 == 0o600
    Claim("../any thing", "task")
    assert (runtime / "..%2Fany%20thing.task.lock").exists()


def test_a_file_that_cannot_be_had_is_an_error_at_once_and_told_of_later(runtime, caplog):
    mine = Claim("shop", "task")
    (runtime / "shop.task.lock").unlink()
    runtime.rmdir()
    runtime.parent.rmdir()
    runtime.parent.write_text("no folder")
    assert not mine.take()
    assert mine.age() is None
    assert "cannot claim a periodic task by" in caplog.text
    with pytest.raises(ForkdError, match=r"periodic task task: cannot open .*shop.task.lock: "):
        Claim("shop", "task")


def test_a_link_is_not_followed(runtime, tmp_path):
    runtime.mkdir(parents=True)
    (runtime / "shop.task.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ForkdError, match="symbolic"):
        Claim("shop", "task")
    assert not (tmp_path / "victim").exists()


def test_the_time_of_the_last_start_is_written_whole(runtime):
    mine = Claim("shop", "task")
    assert mine.take()
    assert mine.age() is None, "never"
    mine.note()
    assert mine.age() == pytest.approx(0, abs=5)
    written(runtime, 100)
    assert mine.age() == pytest.approx(100, abs=5)
    (runtime / "shop.task.lock").write_text("x" * 1000)
    mine.note()
    text = (runtime / "shop.task.lock").read_text()
    assert len(text) == claim._LENGTH
    assert float(text) == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("yesterday", "holds no time, b'yesterday': the task counts as never started"),
        ("\0" * 18, "holds no time"),
        ("1700000000.12", "holds no time"),
        ("1700000000.123456\n1700000000.123456\n", "holds no time"),
        ("9999999999.000000\n", "holds a time to come, b'9999999999.000000\\n': the task counts as never started"),
    ],
)
def test_a_time_that_is_none_or_to_come_is_told_of_and_taken_for_none(runtime, caplog, text, told):
    mine = Claim("shop", "task")
    (runtime / "shop.task.lock").write_text(text)
    assert mine.age() is None
    assert caplog.records == [], "it may just be being written by who holds it"
    assert mine.take()
    assert mine.age() is None
    assert told in caplog.text


def test_a_time_that_cannot_be_written_is_told_of(caplog):
    mine = Claim("shop", "task")
    assert mine.take()
    os.close(mine._file)
    mine._file = os.open("/dev/full", os.O_RDWR)
    mine.note()
    assert "cannot write the time of a start to" in caplog.text


# --- the schedule, in whose turns `now` is an argument ----------------------------------------------------------------


def shared(*, run_immediately: bool = False, jitter: float = 0.0) -> ClaimedSchedule:
    fixed = FixedSchedule(HOUR, 0.0 if run_immediately else HOUR)
    inner = JitteredSchedule(fixed, jitter, lambda _low, high: high) if jitter else fixed
    return ClaimedSchedule(inner, Claim("shop", "task"), run_immediately=run_immediately)


def begin(schedule: Schedule, now: float = 1000.0) -> float:
    """Return when the first call is due."""
    return schedule.confirm(schedule.first(now), now)


def test_the_first_worker_of_all_waits_a_spacing_and_the_next_one_does_not_begin_anew(runtime):
    first = shared()
    assert begin(first) == 1000 + HOUR
    first.close()
    written(runtime, 600)  # of what it wrote at its start
    assert begin(shared()) == pytest.approx(1000 + HOUR - 600, abs=5)


def test_immediately_is_once_for_all_workers(runtime):
    first = shared(run_immediately=True)
    assert begin(first) == 1000
    first.close()
    second = shared(run_immediately=True)
    assert begin(second) == pytest.approx(1000 + HOUR, abs=5)


def test_what_fell_due_while_there_was_no_worker_is_due_at_once(runtime):
    written(runtime, 10 * HOUR)
    schedule = shared()
    assert begin(schedule) == 1000
    assert schedule.following(1000, 1001, None) == (1000 + HOUR, 0)


def test_a_time_to_come_counts_as_none(runtime, caplog):
    written(runtime, -HOUR)
    assert begin(shared(run_immediately=True)) == 1000
    assert "a time to come" in caplog.text


def test_others_stand_by_and_the_next_one_goes_on_in_time(runtime):
    holder, other = shared(run_immediately=True), shared(run_immediately=True)
    assert begin(holder) == 1000
    assert begin(other, 1000.5) == pytest.approx(1000 + HOUR, abs=5)
    written(runtime, HOUR + 5)  # the holder is about to call, or hangs
    assert other.confirm(1000 + HOUR, 1000 + HOUR) == 1000 + 2 * HOUR
    holder.close()
    written(runtime, HOUR / 2)  # the holder's last call was in between
    due = other.confirm(1000 + 2 * HOUR, 1000 + 2 * HOUR)
    assert due == pytest.approx(1000 + 2.5 * HOUR, abs=5)
    assert other.confirm(due, due) == due
    assert other.confirm(due, due - 1) == due
    assert Claim("shop", "task").age() == pytest.approx(0, abs=5)


def test_jitter_comes_on_top(runtime):
    first = shared(run_immediately=True, jitter=60)
    assert begin(first) == 1060
    first.close()
    written(runtime, 600)
    schedule = shared(jitter=60)
    due = begin(schedule)
    assert due == pytest.approx(1000 + HOUR - 600 + 60, abs=5)
    assert schedule.confirm(due, due) == due
    tick = schedule.following(due, due + 1, None)
    assert tick is not None
    assert tick == (due + HOUR, 0)


def test_what_cron_named_while_there_was_no_worker_is_due_at_once(runtime):
    now = time.time()
    written(runtime, 70)
    schedule = ClaimedSchedule(CronSchedule("* * * * *"), Claim("shop", "task"), run_immediately=False)
    assert begin(schedule, now) == now
    other = ClaimedSchedule(CronSchedule("* * * * *"), Claim("shop", "task"), run_immediately=False)
    assert now < begin(other, now) <= now + 60
    schedule.close()
    assert now < begin(other, now) <= now + 60, "it has been called this minute"


# --- in workers -------------------------------------------------------------------------------------------------------


class Sharing(Server):
    @periodic_task(0.02, scope="service")
    def task(self) -> None: ...


def started(engine: str) -> tuple[Service, Sharing]:
    """Return a service as in a worker of the daemon."""
    server = Sharing()
    service = Service(server, name="shop", concurrency=engine)
    service.adopt(Inheritance(worker=WorkerIdentity("host", "shop", 0, 1)))
    service.start()
    return service, server


def test_one_service_calls_and_when_it_stops_another_does(engine, tmp_path):
    os.environ["FORKD_RUNTIME_DIR"] = str(tmp_path)  # this test has its process to itself
    clock = threadgroup.create(engine)

    def reaches(server: Sharing, runs: int) -> bool:
        while server.timers["task"].runs < runs:
            clock.sleep(0.005)
        return True

    with logged() as records:
        one, first = started(engine)
        assert reaches(first, 1)
        other, second = started(engine)
        assert reaches(first, 3)
        assert second.timers["task"].runs == 0
        one.stop()
        called = first.timers["task"].runs
        assert reaches(second, 3)
        other.stop()
    assert first.timers["task"].runs == called
    assert records == []


def test_a_claim_that_cannot_be_had_fails_the_start(engine, tmp_path):
    os.environ["FORKD_RUNTIME_DIR"] = str(tmp_path)
    (tmp_path / "periodic").write_text("no folder")
    with pytest.raises(ForkdError, match=r"periodic task task: cannot open .*/shop.task.lock: "):
        started(engine)
