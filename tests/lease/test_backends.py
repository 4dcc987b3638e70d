"""What keeps leases keeps its promises: one holder, tokens that grow, an answer in time or none, and a record of runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from forkd import lease, threadgroup
from forkd.errors import ForkdError
from forkd.lease import postgresql
from forkd.lease import redis as redis_leases
from forkd.lease.address import parse
from forkd.lease.backend import Backend, Unreachable
from forkd.lease.contact import Contact, opened
from tests.lease.backends import GUARDED, PASSWORD, Redis
from tests.waiting import until

_numbers = count()


@pytest.fixture
def task() -> str:
    """Return the name of a task that no other test has."""
    return f"shop.task{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def backend(url):
    backend = patient(url)
    yield backend
    backend.close()


def patient(url: str) -> Backend:
    """Return a backend that waits for its answers for longer than this machine is ever busy."""
    address = parse(url)
    made = redis_leases.RedisBackend if address.backend == "redis" else postgresql.PostgresqlBackend
    return made(address, 20.0)


def free(backend: Backend, task: str) -> int:
    """Return the token of a task, once nobody has it."""
    return until(lambda: backend.look(task, begin=True).left == 0 and backend.look(task, begin=True).token)


def test_a_new_task_begins_now_or_has_no_tick(backend, task):
    standing = backend.look(task, begin=True)
    assert standing.tick == standing.ended == pytest.approx(standing.now, abs=5)
    assert backend.look(task, begin=False)._replace(now=0, left=0) == standing._replace(now=0, left=0)
    assert (standing.left > 0.5) == isinstance(backend, redis_leases.RedisBackend), "it may have forgotten it"
    other = backend.look(f"{task}b", begin=False)
    assert (other.tick, other.ended) == (None, None)
    assert other.now == pytest.approx(time.time(), abs=5)


def test_one_has_it_for_one_lease(backend, url, task):
    token = free(backend, task)
    other = patient(url)
    granted, standing = backend.take(task, token, 1700000000.123, "host/shop/0/1")
    assert granted
    assert standing[:3] == (token + 1, 1700000000.123, None)
    assert 0.5 < standing.left <= 1
    refused = other.take(task, token, 1700000060.0, "host/shop/0/2")
    assert not refused.granted
    assert refused.standing[:3] == standing[:3]
    assert not other.take(task, token + 1, 1700000060.0, "host/shop/0/2").granted
    until(lambda: other.look(task, begin=False).left == 0)
    assert other.take(task, token + 1, 1700000060.0, "host/shop/0/2").granted
    assert not backend.renew(task, token + 1)
    assert [(run.token, run.holder, run.outcome) for run in backend.runs(task, 9)] == [
        (token + 2, "host/shop/0/2", ""),
        (token + 1, "host/shop/0/1", "expired"),
    ]
    other.close()


def test_many_who_ask_at_once_are_given_it_once(backend, url, task):
    token = free(backend, task)
    all_at_once, granted = threading.Barrier(8), []

    def ask() -> None:
        mine = patient(url)
        mine.look(task, begin=True)
        all_at_once.wait(10)
        granted.append(mine.take(task, token, 1.0, "x").granted)
        mine.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(granted) == [*[False] * 7, True]


def test_renewed_it_lasts_and_finished_it_is_free(backend, url, task):
    token = free(backend, task)
    assert backend.take(task, token, 1.0, "one").granted
    other = patient(url)
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        assert backend.renew(task, token + 1)
        assert not other.take(task, token + 1, 2.0, "other").granted
    backend.finish(task, token + 1, "ok", time.time() - 0.25)
    standing = other.look(task, begin=False)
    assert standing.left == 0
    assert standing.now - 1 < standing.ended < standing.now - 0.2
    assert not backend.renew(task, token + 1), "a renewal that comes late takes nothing"
    assert other.take(task, token + 1, 2.0, "other").granted
    assert not backend.finish(task, token + 1, "failed", time.time())
    assert other.renew(task, token + 2), "whoever had it before gives nothing back"
    other.close()


def test_who_got_no_answer_may_ask_again(backend, url, task):
    token = free(backend, task)
    assert backend.take(task, token, 1.0, "one").granted
    assert backend.take(task, token, 1.0, "one").granted
    other = patient(url)
    assert not other.take(task, token, 1.0, "one").granted
    other.close()
    backend.finish(task, token + 1, "ok", time.time())
    assert not backend.take(task, token, 1.0, "one").granted
    assert len(backend.runs(task, 9)) == 1


def test_every_run_is_recorded_and_the_last_ones_kept(backend, url, task, monkeypatch):
    for module in (redis_leases, postgresql):
        monkeypatch.setattr(module, "KEPT", 3)
    token = free(backend, task)
    outcomes = ["ok", "failed", "lost", "stopped", "ok"]
    for number, outcome in enumerate(outcomes):
        assert backend.take(task, token + number, float(number), f"host/shop/0/{number}").granted
        backend.finish(task, token + number + 1, outcome, time.time())
    service, _, name = task.partition(".")
    runs = lease.runs(url, service, name)
    assert [(run.token, run.holder, run.outcome) for run in runs] == [
        (token + number + 1, f"host/shop/0/{number}", outcomes[number]) for number in (4, 3, 2)
    ]
    assert all(run.started <= run.ended + 0.001 for run in runs)
    assert runs[0].started == pytest.approx(time.time(), abs=5)
    assert len(lease.runs(url, service, name, most=2)) == 2
    assert lease.runs(url, service, "nothing") == []
    with pytest.raises(ForkdError, match="lease: expected"):
        lease.runs("file:///", service, name)


def test_tokens_grow_over_a_restart(server, backend, task):
    token = free(backend, task)
    assert backend.take(task, token, 1.0, "one").granted
    server.kill()
    with pytest.raises(Unreachable):
        backend.look(task, begin=True)
    server.start()
    assert backend.renew(task, token + 1), "who has it keeps it"
    backend.finish(task, token + 1, "ok", time.time())
    assert free(backend, task) == token + 1
    assert backend.take(task, token + 1, 2.0, "one").granted


def test_a_redis_that_has_lost_its_memory_gives_nothing_for_one_lease_and_its_tokens_grow(short_tmp, task):
    with Redis(short_tmp, durable=False) as redis:
        backend = patient(redis.url)
        token = free(backend, task)
        assert backend.take(task, token, 1.0, "one").granted
        asked = time.monotonic()
        redis.kill()
        redis.start()
        other = patient(redis.url)
        standing = other.look(task, begin=True)
        assert standing.token > token + 1
        assert not other.take(task, standing.token, 1.0, "other").granted
        assert not backend.renew(task, token + 1)
        free(other, task)
        assert time.monotonic() - asked > 1, "whoever had it has it no more"
        assert other.take(task, standing.token, 1.0, "other").granted
        backend.close()
        other.close()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_the_tables_of_postgresql_are_made_by_whoever_comes_first(server, task):
    server.execute("CREATE DATABASE empty")
    url = server.url.replace("/postgres?", "/empty?")
    all_at_once = threading.Barrier(8)

    def look(_number: int) -> None:
        with contextlib.closing(patient(url)) as backend:
            all_at_once.wait(10)
            backend.look(task, begin=True)

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(look, range(8)))) == 8


# --- passwords --------------------------------------------------------------------------------------------------------


def test_a_password_of_the_url_or_of_a_file(server, tmp_path, task, caplog):
    server.guard()
    scheme, _, place = server.url.partition("?")[0].rpartition("//")
    guarded = f"{scheme}//{GUARDED}{{}}@{place.rpartition('@')[2]}"
    backend = opened(parse(guarded.format(":hunter%2F2%40x")), 5.0)
    backend.look(task, begin=True)
    backend.close()
    file = tmp_path / "pw"
    contact = Contact(parse(f"{guarded.format('')}?password_file={file}"))
    assert contact.ask(contact.backend.look, task, begin=True) is None
    assert "no such file or directory" in caplog.text
    file.write_bytes(b"\xff\n")
    assert contact.ask(contact.backend.look, task, begin=True) is None
    file.write_text("hunter1\n")
    caplog.clear()
    contact = Contact(contact.address)
    assert contact.ask(contact.backend.look, task, begin=True) is None
    assert "invalid username-password pair" in caplog.text or "password authentication failed" in caplog.text
    assert "hunter" not in caplog.text
    file.write_text(f"{PASSWORD}\n")
    assert contact.ask(contact.backend.look, task, begin=True) is not None
    assert "again, after" in caplog.text
    contact.backend.close()


def answers(backend: Backend, task: str) -> bool:
    try:
        backend.look(task, begin=True)
    except Unreachable:
        return False
    return True


# --- a backend that does not answer, and threads that wait ------------------------------------------------------------


def test_who_accepts_and_says_nothing_holds_up_no_thread(engine, kind):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    address = parse(f"{kind}://localhost:{listener.getsockname()[1]}/0?ttl=2s")
    group = threadgroup.create(engine)
    contact = Contact(address)
    gaps, last = [], time.monotonic()

    def beat() -> None:
        nonlocal last
        gaps.append(time.monotonic() - last)
        last = time.monotonic()

    group.add_timer(0.02, beat)
    begun = time.monotonic()
    assert contact.ask(contact.backend.look, "shop.task", begin=True) is None
    took = time.monotonic() - begun
    assert 0.35 < took < 1.5, "one try, or one for each address of the name"
    assert len(gaps) > 3
    assert max(gaps) < 0.25
    group.stop()
    listener.close()


@pytest.fixture
def pid(server) -> int:
    return server.process.pid


def test_a_server_that_is_stopped_holds_up_no_thread(engine, url, pid):
    group = threadgroup.create(engine)
    backend = opened(parse(url), 0.3)
    until(lambda: answers(backend, "shop.task"))
    beats = []
    group.add_timer(0.02, lambda: beats.append(time.monotonic()))
    processes = [int(pid), *children(int(pid))]
    try:
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            backend.look("shop.task", begin=True)
        assert 0.25 < time.monotonic() - begun < 1.0
        assert len(beats) > 3
    finally:
        for each in processes:
            os.kill(each, signal.SIGCONT)
    until(lambda: answers(backend, "shop.task"))
    backend.close()
    group.stop()


def test_a_thread_that_is_stopped_in_mid_question_leaves_no_answer_to_others(engine, url):
    group = threadgroup.create(engine)
    backend = opened(parse(url), 5.0)

    def ask_on() -> None:
        for number in count():
            backend.look(f"shop.a{number % 3}", begin=True)

    for _ in range(5):
        asking = group.add_thread(ask_on)
        group.sleep(0.03)
        asking.stop()
        for number in range(5):
            assert backend.look(f"shop.b{number}", begin=False).tick is None
    backend.close()
    group.stop()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
