"""Threads of a group: one suite, both engines."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import posix
import resource
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

from forkd import threadgroup
from forkd.errors import ForkdError
from forkd.threadgroup import Stopped
from tests.library.logs import logged

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 3600.0


def test_a_thread_gets_its_arguments_and_runs_beside_its_maker(engine):
    group = threadgroup.create(engine)
    seen: list[object] = []
    thread = group.add_thread(lambda *args, **kwargs: seen.append((args, kwargs)), 1, 2, fn="x", name="y")
    assert thread.wait(5)
    assert thread.done
    assert seen == [((1, 2), {"fn": "x", "name": "y"})]
    assert group.active == 0


def test_what_a_thread_raises_is_logged_with_its_traceback(engine):
    group = threadgroup.create(engine)

    def fails() -> None:
        raise KeyError("DSN")

    with logged() as records:
        assert group.add_thread(fails).wait(5)
    (record,) = records
    assert "fails failed" in record
    assert "Traceback" in record
    assert "KeyError: 'DSN'" in record
    assert group.active == 0


def test_what_is_no_exception_is_logged_too(engine):
    group = threadgroup.create(engine)

    def fails() -> None:
        raise asyncio.CancelledError

    with logged() as records:
        assert group.add_thread(fails).wait(5)
    assert "CancelledError" in records[0]


def test_sys_exit_ends_the_thread_alone(engine):
    group = threadgroup.create(engine)
    with logged() as records:
        assert group.add_thread(sys.exit, 3).wait(5)
    assert "only the thread ends" in records[0]


def test_no_more_threads_than_the_limit(engine):
    group = threadgroup.create(engine, 2)
    go, most = group.event(), [0]

    def work() -> None:
        most[0] = max(most[0], group.active)
        go.wait()

    group.add_thread(work)
    assert group.try_thread(work) is not None
    assert group.try_thread(work) is None
    blocked = group.add_loop(lambda: [group.add_thread(work) for _ in range(5)])
    assert not blocked.wait(0.05)
    assert group.active == 2
    go.set()
    assert blocked.wait(5)
    assert group.wait(5)
    assert most[0] == 2
    assert group.try_thread(int) is not None


@pytest.mark.parametrize("engine", ["eventlet"], indirect=True)
def test_a_hubs_callback_is_refused_at_the_limit_and_blocks_nobody(engine):
    group = threadgroup.create(engine, 1)
    told = group.event()
    heard: list[str] = []

    def callback() -> None:
        try:
            group.add_thread(int)
        except ForkdError as error:
            heard.append(str(error))
        told.set()

    group.add_thread(group.sleep, LONG)
    sys.modules["eventlet.hubs"].get_hub().schedule_call_global(0, callback)
    assert told.wait(5)
    assert "a hub's callback cannot wait: use try_thread" in heard[0]
    assert group.active == 1


def test_loops_and_timers_do_not_count_against_the_limit(engine):
    group = threadgroup.create(engine, 1)
    forever = group.event()
    loops = [group.add_loop(forever.wait) for _ in range(3)]
    group.add_timer(LONG, int)
    assert group.active == 0
    assert group.add_thread(int).wait(5)
    group.stop(graceful=True)
    assert group.wait(5)
    assert all(loop.done for loop in loops)


def test_whoever_waits_for_a_place_is_told_that_the_group_was_stopped(engine):
    group = threadgroup.create(engine, 1)
    group.add_thread(group.sleep, LONG)
    heard: list[str] = []

    def wants_one() -> None:
        try:
            group.add_thread(int)
        except (ForkdError, Stopped) as error:
            heard.append(type(error).__name__)

    waiting = group.add_loop(wants_one)
    assert not waiting.wait(0.05)
    group.stop()
    assert group.wait(5)
    assert len(heard) == 1
    with pytest.raises(ForkdError, match="cannot start thread int: its thread group is stopped"):
        group.add_thread(int)
    assert group.try_thread(int) is None


def test_a_thread_that_waits_is_stopped_at_once(engine):
    group = threadgroup.create(engine)
    never, (reader, _writer) = group.event(), os.pipe()
    other = group.add_thread(group.sleep, LONG)
    waits: tuple[Callable[[], object], ...] = (
        lambda: group.sleep(LONG),
        never.wait,
        lambda: never.wait(LONG),
        lambda: group.wait_readable(reader),
        lambda: group.wait_readable(reader, LONG),
        other.wait,
    )
    ended: list[int] = []

    def wait_in_vain(number: int) -> None:
        try:
            waits[number]()
        finally:
            ended.append(number)

    threads = [group.add_thread(wait_in_vain, number) for number in range(len(waits))]
    assert not threads[0].wait(0.05)
    group.stop(graceful=False)
    assert group.wait(5)
    assert sorted(ended) == list(range(len(waits)))


def test_one_thread_can_be_stopped_and_the_others_go_on(engine):
    group = threadgroup.create(engine)
    one, other = group.add_thread(group.sleep, LONG), group.add_thread(group.sleep, LONG)
    one.stop()
    assert one.wait(5)
    assert not other.done


def test_a_thread_stopped_before_its_first_wait_is_stopped_there_or_never_begins(engine):
    group = threadgroup.create(engine)
    reached: list[int] = []

    def work() -> None:
        group.sleep(LONG)
        reached.append(1)

    thread = group.add_thread(work)
    thread.stop()
    assert thread.wait(5)
    assert reached == []


def test_cleaning_up_may_wait_again(engine):
    group = threadgroup.create(engine)
    begun, cleaned = group.event(), []

    def work() -> None:
        try:
            begun.set()
            group.sleep(LONG)
        finally:
            group.sleep(0.01)
            cleaned.append(1)

    group.add_thread(work)
    assert begun.wait(5)
    group.sleep(0)
    group.stop()
    assert group.wait(5)
    assert cleaned == [1]


def test_current_stop_is_the_calling_threads_own(engine):
    group = threadgroup.create(engine)
    begun, seen = group.event(), []

    def work() -> None:
        stop = threadgroup.current_stop()
        assert stop is not None
        seen.append(stop.is_set())
        begun.set()
        try:
            group.sleep(LONG)
        finally:
            seen.append(stop.is_set())

    thread = group.add_thread(work)
    assert begun.wait(5)
    thread.stop()
    assert thread.wait(5)
    assert seen == [False, True]
    assert threadgroup.current_stop() is None


def test_one_that_does_not_stop_is_waited_for_no_longer_than_told(engine):
    group = threadgroup.create(engine)
    release, refused = group.event(), group.event()

    def deaf() -> None:
        while not release.is_set():
            try:
                release.wait()
            except Stopped:
                refused.set()

    group.add_thread(deaf)
    group.sleep(0.02)
    group.stop()
    assert refused.wait(5)
    assert not group.wait(0.05)
    assert [thread.name.rpartition(".")[2] for thread in group.others()] == ["deaf"]
    release.set()
    assert group.wait(5)


def test_a_graceful_stop_lets_threads_finish_and_start_others(engine):
    group = threadgroup.create(engine)
    done: list[str] = []

    def work() -> None:
        assert group.stopping.wait(5)
        group.add_thread(done.append, "helper").wait()
        done.append("work")

    group.add_thread(work)
    group.stop(graceful=True)
    assert group.wait(5)
    assert done == ["helper", "work"]
    with pytest.raises(ForkdError, match="stopped"):
        group.add_timer(1, int)


def test_a_member_may_stop_its_group_and_wait_for_the_others(engine):
    group = threadgroup.create(engine)
    group.add_thread(group.sleep, LONG)
    seen: list[object] = []

    def work() -> None:
        me = group.current()
        group.stop()
        seen.extend([me is not None, group.wait(5), group.others()])
        group.sleep(0)
        seen.append("spared")

    group.add_thread(work)
    assert group.wait(5)
    assert seen == [True, True, [], "spared"]
    assert group.current() is None


def test_a_thread_that_cannot_be_started_leaves_no_trace(engine):
    group = threadgroup.create(engine, 1)
    real = group._threads._engine

    class Exhausted:
        def __init__(self, *_args) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    group._threads._engine = type("Engine", (), {"thread": Exhausted})  # type: ignore[assignment]
    with pytest.raises(ForkdError, match="cannot start thread int: can't start new thread"):
        group.add_thread(int)
    with logged() as records:
        assert group.try_thread(int) is None
    assert "cannot start thread int: can't start new thread" in records[0]
    assert group.active == 0
    group._threads._engine = real
    assert group.add_thread(int).wait(5)


def test_an_event_wakes_all_and_stays_set(engine):
    group = threadgroup.create(engine)
    event = group.event()
    assert not event.wait(0)
    assert not event.wait(0.01)
    waiting = [group.add_thread(event.wait) for _ in range(5)]
    group.sleep(0.02)
    event.set()
    event.set()
    assert all(thread.wait(5) for thread in waiting)
    assert event.wait()
    assert event.wait(0)
    assert event.is_set()


def test_is_writable(engine):
    group = threadgroup.create(engine)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    assert group.is_writable(writer)
    with contextlib.suppress(BlockingIOError):
        while posix.write(writer, bytes(4096)):
            pass
    assert not group.is_writable(writer)
    os.close(reader)
    assert group.is_writable(writer), "that it has failed is learned by writing"
    os.close(writer)


def test_wait_readable(engine):
    group = threadgroup.create(engine)
    reader, writer = os.pipe()
    assert not group.wait_readable(reader, 0)
    assert not group.wait_readable(reader, 0.01)
    group.add_thread(os.write, writer, b"x")
    assert group.wait_readable(reader)
    assert group.wait_readable(reader, 0)
    os.read(reader, 1)
    os.close(writer)
    assert group.wait_readable(reader, 5), "the end can be read too"
    os.close(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        group.wait_readable(reader, 5)


def test_the_name_of_a_thread_is_its_functions(engine):
    group = threadgroup.create(engine)
    assert group.add_thread(group.sleep, 0).name.endswith("Engine.sleep")


def test_strays_are_named(engine):
    group = threadgroup.create(engine)
    assert threadgroup.strays(engine) == []
    group.add_thread(group.sleep, LONG)
    group.sleep(0.01)
    (stray,) = threadgroup.strays(engine)
    assert stray.endswith("sleep")


def test_green_threads_are_seen_where_they_wait(engine):
    group = threadgroup.create(engine)

    def a_place_to_be_found():
        group.sleep(LONG)

    group.add_thread(a_place_to_be_found)
    group.add_thread(print).stop()  # which never begins
    if engine == "eventlet":
        sys.modules["eventlet"].spawn(a_place_to_be_found)
    group.sleep(0.01)
    found = threadgroup.suspended(engine)
    assert len(found) == (2 if engine == "eventlet" else 0)
    for name, frame in found:
        assert name.endswith("a_place_to_be_found")
        assert any("a_place_to_be_found" in line for line in traceback.format_stack(frame))


def test_native_threads_are_seen_from_another_one(engine):
    native = sys.modules["eventlet"].patcher.original("threading") if engine == "eventlet" else threading
    here, go = native.Event(), native.Event()

    def a_place_to_be_found():
        here.set()
        go.wait()

    thread = native.Thread(target=a_place_to_be_found)
    thread.start()
    here.wait()
    found = threadgroup.frames_of_others()
    assert found.keys() == {thread.ident}
    assert "a_place_to_be_found" in "".join(traceback.format_stack(found[thread.ident]))
    assert gc.isenabled()
    gc.disable()
    threadgroup.frames_of_others()
    assert not gc.isenabled()
    gc.enable()
    go.set()
    thread.join()
    assert threadgroup.frames_of_others() == {}


def test_idle_threads_wake_nobody(engine):
    group = threadgroup.create(engine)
    reader, _writer = os.pipe()
    for _ in range(5):
        group.add_thread(group.event().wait)
    group.add_thread(group.wait_readable, reader)
    group.add_timer(LONG, int)
    group.sleep(0.1)
    before = resource.getrusage(resource.RUSAGE_SELF)
    group.sleep(1.0)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_nvcsw - before.ru_nvcsw <= 5


def test_what_lived_before_a_fork_does_not_run_in_the_child(engine):
    group = threadgroup.create(engine)
    reader, writer = os.pipe()
    (wake, waker), told = os.pipe(), os.getpid()

    def tell(what: bytes) -> None:
        posix.write(
            writer, what if os.getpid() == told else b"!"
        )  # eventlet's own lets only one thread write at a time

    def sleeper() -> None:
        try:
            group.sleep(0.05)
            tell(b"s")
        finally:
            tell(b"f")

    def polling() -> None:
        group.wait_readable(wake)
        tell(b"p")

    if engine == "eventlet":  # native threads would have to be dead by now: only the parent's survive a fork at all
        group.add_thread(sleeper)
        group.add_thread(polling)
        group.add_timer(0.02, tell, b"t")
        group.sleep(0.01)
    child = os.fork()
    if child == 0:
        try:
            del group, sleeper, polling
            threadgroup.after_fork(engine)
            own = threadgroup.create(engine)
            os.write(waker, b"x")
            gc.collect()
            own.add_thread(own.sleep, 0.15)
            own.wait()
            assert threadgroup.strays(engine) == [] or engine == "eventlet"
            assert own.wait_readable(wake, 5), "the child's own hub works"
            posix.write(writer, b"c")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if engine == "eventlet":
        group.stop(graceful=True)
        assert group.wait(5), "the parent's hub is as it was"
    os.close(writer)
    heard = os.read(reader, 4096)
    assert b"!" not in heard
    assert b"c" in heard
    if engine == "eventlet":
        assert heard.count(b"s") == heard.count(b"f") == heard.count(b"p") == 1
        assert b"t" in heard


def test_an_engine_that_the_process_is_not_prepared_for_is_refused(engine):
    other = {"eventlet": "threads", "threads": "eventlet"}[engine]
    with pytest.raises(ForkdError, match=f"concurrency '{other}'"):
        threadgroup.create(other)


def test_a_limit_below_one_and_an_unknown_concurrency_are_refused():
    with pytest.raises(ForkdError, match="at least 1 thread, got 0"):
        threadgroup.create("threads", 0)
    with pytest.raises(ForkdError, match="unknown concurrency 'gevent': it is one of eventlet, threads"):
        threadgroup.create("gevent")


def test_threads_have_the_limit_of_their_concurrency():
    assert threadgroup.create("threads").limit == 32
    assert threadgroup.DEFAULT_LIMITS["eventlet"] == 1000


def test_a_green_thread_that_waits_can_be_interrupted_and_goes_on_afterwards(engine):
    group = threadgroup.create(engine)
    told, begun, go_on = [], group.event(), group.event()

    def waits() -> None:
        for _ in range(2):
            try:
                begun.set()
                go_on.wait(0.2)
                told.append("waited")
            except KeyError as error:
                told.append(error.args[0])

    thread = group.add_thread(waits)
    begun.wait()
    thread.interrupt(KeyError("no"), lambda: False)
    thread.interrupt(KeyError("yes"), lambda: not told)
    thread.interrupt(KeyError("twice"), lambda: not told)
    assert thread.wait(5)
    assert told == (["yes", "waited"] if engine == "eventlet" else ["waited", "waited"])
    thread.interrupt(KeyError("over"), lambda: True)
    group.sleep(0.01)


def test_an_attendant_outlives_a_graceful_stop(engine):
    group = threadgroup.create(engine)
    over, seen = group.event(), []
    group.add_attendant(lambda: seen.append(over.wait(5)))
    group.stop(graceful=True)
    group.sleep(0.01)
    group.add_attendant(over.set)
    assert group.wait(5)
    assert seen == [True]
    group.add_attendant(over.wait)
    group.stop()
    with pytest.raises(ForkdError):
        group.add_attendant(over.wait)
