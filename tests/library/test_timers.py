"""Timers: when their calls fall due, as tables and in virtual time; how they run and stop, on both engines."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from forkd import threadgroup
from forkd.threadgroup import Done, Stopped, schedules
from forkd.threadgroup.engine import Task
from forkd.threadgroup.schedules import BackoffSchedule, DynamicSchedule, FixedSchedule, JitteredSchedule, Tick
from tests.library.logs import logged
from tests.library.virtual_time import VirtualTime
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import Event, ThreadGroup, Timer

LONG = 3600.0


@pytest.mark.parametrize(
    ("due", "now", "tick"),
    [
        (10.0, 10.0, Tick(12.0)),
        (10.0, 11.9, Tick(12.0)),
        (10.0, 12.0, Tick(12.0)),  # due this very moment: not missed
        (10.0, 12.1, Tick(14.0, 1)),
        (10.0, 14.0, Tick(14.0, 1)),
        (10.0, 19.0, Tick(20.0, 4)),
        (10.0, 9.5, Tick(12.0)),  # woken early, by a coarse clock
    ],
)
def test_a_fixed_timers_next_call_is_the_next_tick_not_yet_over(due, now, tick):
    schedule = FixedSchedule(2.0, 0.0)
    assert schedule.following(due, now, None) == tick
    assert schedule.retry(due, now) == tick


def test_a_dynamic_timers_next_call_is_as_late_as_it_says():
    schedule = DynamicSchedule(3.0)
    assert schedule.first(10.0) == 13.0
    assert schedule.retry(13.0, 14.0) == Tick(15.0), "nothing said yet: a second"
    assert schedule.following(15.0, 16.0, 5) == Tick(21.0)
    assert schedule.retry(21.0, 22.0) == Tick(27.0)
    assert schedule.following(27.0, 28.0, 0) == Tick(28.0)
    assert schedule.retry(28.0, 29.0) == Tick(30.0), "it would spin"
    assert schedule.following(30.0, 31.0, None) is None
    for no_number in ("soon", True):
        with pytest.raises(TypeError, match="expected seconds"):
            schedule.following(30.0, 31.0, no_number)
    for no_delay in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 or more"):
            schedule.following(30.0, 31.0, no_delay)


def test_a_dynamic_timer_waits_no_longer_than_it_may():
    schedule = DynamicSchedule(3.0, 10.0)
    assert schedule.following(3.0, 4.0, 11) == Tick(14.0)
    assert schedule.retry(14.0, 15.0) == Tick(25.0)
    assert schedule.following(25.0, 26.0, 9) == Tick(35.0)
    assert schedule.following(35.0, 36.0, None) is None, "its end is its end"
    assert DynamicSchedule(0.0, 0.5).retry(1.0, 2.0) == Tick(2.5)


def latest(low: float, high: float) -> float:
    assert low == high / 2
    return high


def test_a_backoff_timers_delays_double_up_to_the_longest():
    schedule = BackoffSchedule(1.0, 5.0, LONG, latest)
    assert schedule.first(10.0) == 10.0
    now, waits = 10.0, []
    for _ in range(5):
        tick = schedule.following(now, now, False)
        assert tick is not None
        waits.append(tick.due - now)
        now = tick.due
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert schedule.retry(now, now + 1) == Tick(now + 6), "one that raised is one that failed"
    assert schedule.following(now, now, "found") is None


def test_a_backoff_timers_last_try_is_at_its_timeout():
    schedule = BackoffSchedule(4.0, 60.0, 10.0, latest)
    assert schedule.first(100.0) == 100.0
    assert schedule.following(100.0, 101.0, None) == Tick(105.0)
    assert schedule.following(105.0, 106.0, 0) == Tick(110.0)
    assert schedule.following(110.0, 110.5, True) is None
    assert schedule.retry(110.0, 110.5) is None
    with pytest.raises(TimeoutError, match="nothing came of it in 10 s"):
        schedule.following(110.0, 110.5, [])


def test_backoff_delays_are_drawn_anew():
    schedule = BackoffSchedule(60.0, 60.0, LONG)
    drawn = {schedule.retry(0.0, 0.0) for _ in range(20)}
    assert len(drawn) > 10
    assert all(tick is not None and 30 <= tick.due <= 60 for tick in drawn)


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_no_time_is_refused(interval):
    with pytest.raises(ValueError, match="interval: expected"):
        threadgroup.create("threads").add_timer(interval, int)


def test_a_delay_that_is_no_time_is_refused():
    with pytest.raises(TypeError, match="initial_delay: expected seconds, got '5s'"):
        threadgroup.create("threads").add_dynamic_timer(int, initial_delay="5s")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_delay: expected more than 0 seconds"):
        threadgroup.create("threads").add_dynamic_timer(int, max_delay=0)
    for name in ("delay", "max_delay", "timeout"):
        with pytest.raises(ValueError, match=f"^{name}: expected more than 0 seconds"):
            threadgroup.create("threads").add_backoff_timer(int, **{name: 0})


def test_a_timer_does_not_drift_whatever_its_calls_and_its_wake_ups_take():
    virtual = VirtualTime(100.5, takes=[0.3, 0.7, 0.01], oversleeps=[0.05])
    timer = virtual.run(FixedSchedule(1.0, 1.0))
    assert virtual.calls == [pytest.approx(tick + 0.05) for tick in range(1, 101)]
    assert timer.runs == 100
    assert timer.skipped == 0
    assert timer.lateness == pytest.approx(0.05)


def test_ticks_that_pass_during_a_call_are_skipped_not_bunched():
    virtual = VirtualTime(10.5, takes=[0.1, 2.5])
    timer = virtual.run(FixedSchedule(1.0, 0.0))
    assert virtual.calls == [0, 1, 4, 5, 8, 9]
    assert (timer.runs, timer.skipped) == (6, 6)


def test_no_wait_is_longer_than_a_hub_can_count():
    month = 30 * 86400.0
    virtual = VirtualTime(month + 1, takes=[0.0])
    virtual.run(FixedSchedule(month, month))
    assert virtual.calls == [month]
    assert max(virtual.waits) <= 86400


def jittered(spacing: float, jitter: float, *drawn: float) -> JitteredSchedule:
    """Return a schedule whose draws are these, as shares of what is possible, over and over."""
    draws = iter(drawn * 1000)
    return JitteredSchedule(FixedSchedule(spacing, spacing), jitter, lambda low, high: low + (high - low) * next(draws))


def test_jitter_puts_each_call_off_anew_and_the_grid_stays():
    virtual = VirtualTime(100.5, takes=[0.1], oversleeps=[0.05])
    timer = virtual.run(jittered(1.0, 0.5, 0.0, 0.8, 0.2))
    delays = [round(call - tick, 6) for tick, call in enumerate(virtual.calls, 1)]
    assert delays == [0.05, 0.45, 0.15] * 33 + [0.05], "drawn, and slept too long"
    assert (timer.runs, timer.skipped) == (100, 0)
    assert timer.max_lateness == pytest.approx(0.05), "it counts from the instant that was drawn"


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_jitter_of_a_spacing_and_more_neither_skips_nor_bunches(spread):
    virtual = VirtualTime(1000.0, takes=[0.001])
    timer = virtual.run(jittered(1.0, spread, 0.9, 0.01, 0.5, 0.0, 1.0))
    ticks = range(1, timer.runs + 1)
    assert timer.runs > 900
    assert timer.skipped < 20
    assert all(0 <= call - tick <= spread + timer.skipped for tick, call in zip(ticks, virtual.calls, strict=True))
    assert timer.max_lateness == pytest.approx(0)


def test_ticks_that_pass_during_a_call_are_skipped_with_jitter_too():
    virtual = VirtualTime(10.5, takes=[0.1, 2.5])
    timer = virtual.run(jittered(1.0, 0.2, 0.5))
    assert virtual.calls == [1.1, 2.1, 5.1, 6.1, 9.1, 10.1]
    assert timer.skipped == 6


def test_the_largest_lateness_is_kept():
    virtual = VirtualTime(3.5, oversleeps=[0.1, 0.4, 0.2])
    timer = virtual.run(FixedSchedule(1.0, 1.0))
    assert virtual.calls == [1.1, 2.4, 3.2]
    assert [timer.lateness, timer.max_lateness] == pytest.approx([0.2, 0.4])


def sets(event: Event, condition: Callable[[], object]) -> Callable[[], None]:
    """Return a timer's call that sets `event` when the condition holds."""

    def call() -> None:
        if condition():
            event.set()

    return call


def test_a_timer_calls_at_once_and_again(engine):
    group = threadgroup.create(engine)
    calls: list[tuple[int, ...]] = []
    timer = group.add_timer(0.02, lambda *args: calls.append(args), 1, 2)
    third = group.event()
    group.add_timer(0.01, sets(third, lambda: timer.runs >= 3))
    assert third.wait(5)
    assert set(calls) == {(1, 2)}
    assert not timer.done


def test_the_first_call_waits_for_its_initial_delay(engine):
    group = threadgroup.create(engine)
    later, sooner = group.add_timer(0.01, int, initial_delay=LONG), group.add_timer(LONG, int, initial_delay=0.01)
    seen = group.event()
    group.add_timer(0.01, sets(seen, lambda: sooner.runs))
    assert seen.wait(5)
    assert (later.runs, sooner.runs) == (0, 1)


def test_a_call_that_raises_is_logged_and_the_timer_goes_on(engine):
    group = threadgroup.create(engine)
    often, calls = group.event(), []

    def fails() -> None:
        calls.append(1)  # the first may come before its timer has a name here
        if len(calls) == 3:
            often.set()
        raise KeyError("DSN")

    with logged() as records:
        timer = group.add_timer(0.01, fails, initial_delay=0.01)
        assert often.wait(5)
        group.stop(graceful=True)
        assert group.wait(5)
    assert timer.failures == timer.runs >= 3
    assert len(records) == timer.failures
    assert "fails failed" in records[0]
    assert "Traceback" in records[0]
    assert "KeyError: 'DSN'" in records[0]


def test_a_call_that_raises_what_is_no_exception_is_a_failure_like_any_other(engine):
    group = threadgroup.create(engine)
    again, calls = group.event(), []

    def fails() -> None:
        calls.append(1)
        if len(calls) == 2:
            again.set()
        raise asyncio.CancelledError if len(calls) == 1 else SystemExit(3)

    with logged() as records:
        timer = group.add_timer(0.01, fails, initial_delay=0.01)
        assert again.wait(5)
        group.stop(graceful=True)
        assert group.wait(5)
    assert timer.failures == timer.runs >= 2
    assert "CancelledError" in records[0]
    assert "SystemExit: 3" in records[1]


def test_a_native_thread_that_raises_what_ctrl_c_would_goes_on_with_its_calls():
    group = threadgroup.create("threads")
    again, calls = group.event(), []

    def fails() -> None:
        calls.append(1)
        if len(calls) == 2:
            again.set()
        raise KeyboardInterrupt

    with logged() as records:
        group.add_timer(0.01, fails, initial_delay=0.01)
        assert again.wait(5)
        group.stop(graceful=True)
        assert group.wait(5)
    assert "KeyboardInterrupt" in records[0]


def test_calls_never_overlap(engine):
    group = threadgroup.create(engine)
    inside, most, enough = [0], [0], group.event()

    def slow() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        group.sleep(0.03)
        inside[0] -= 1
        if timer.runs >= 4:
            enough.set()

    timer = group.add_timer(0.01, slow, initial_delay=0.01)
    assert enough.wait(5)
    assert most == [1]
    assert timer.skipped >= 6


def test_a_timer_that_blocks_delays_no_other(engine):
    group = threadgroup.create(engine)
    never, enough = group.event(), group.event()
    blocked = group.add_timer(0.01, never.wait)
    other = group.add_timer(0.01, sets(enough, lambda: other.runs >= 3), initial_delay=0.01)
    assert enough.wait(5)
    assert blocked.runs == 1


def test_a_timer_that_sleeps_ends_at_once(engine):
    group = threadgroup.create(engine)
    ticking = [group.add_timer(LONG, int), group.add_timer(1, int, initial_delay=LONG)]
    until(lambda: ticking[0].runs == 1, what="the first tick")
    group.stop(graceful=True)
    assert group.wait(5)
    assert all(timer.done for timer in ticking)
    assert [timer.runs for timer in ticking] == [1, 0]


def test_one_timer_can_be_stopped(engine):
    group = threadgroup.create(engine)
    one, other = group.add_timer(LONG, int), group.add_timer(LONG, int)
    one.stop()
    assert one.wait(5)
    assert not other.wait(0)
    assert not other.done


@pytest.mark.parametrize("how", ["graceful", "at once"])
def test_a_graceful_stop_finishes_the_running_call_another_does_not(engine, how):
    group = threadgroup.create(engine)
    begun = group.event()
    outcomes: list[str] = []

    def call() -> None:
        begun.set()
        try:
            group.sleep(0.05 if how == "graceful" else LONG)
            outcomes.append("finished")
        except Stopped:
            outcomes.append("stopped")
            raise

    group.add_timer(0.001, call)
    assert begun.wait(5)
    group.sleep(0)
    group.stop(graceful=how == "graceful")
    assert group.wait(5)
    assert outcomes == ["finished" if how == "graceful" else "stopped"]


def test_a_dynamic_timer_waits_as_its_calls_say(engine):
    group = threadgroup.create(engine)
    answers = [0, 0.01, None, 0]
    timer = group.add_dynamic_timer(lambda: answers.pop(0))
    assert timer.wait(5)
    assert timer.done
    assert timer.runs == 3
    assert group.wait(5)


def test_a_timer_that_never_waits_lets_others_have_their_turn(engine):
    group = threadgroup.create(engine)
    timers = [group.add_dynamic_timer(lambda: 0), group.add_timer(1e-9, int)]
    group.sleep(0.05)
    group.stop()
    assert group.wait(5)
    assert all(timer.runs > 1 for timer in timers)


def test_a_dynamic_timer_that_says_nonsense_is_logged_and_asked_again(engine):
    group = threadgroup.create(engine)
    schedules._SHORTEST_RETRY = 0.01  # this test has its process to itself
    answers = ["soon", None]
    with logged() as records:
        timer = group.add_dynamic_timer(lambda: answers.pop(0))
        assert timer.wait(5)
    assert timer.failures == 1
    assert "expected seconds, got 'soon'" in records[0]


def test_a_call_ends_its_timer_by_done(engine):
    group = threadgroup.create(engine)

    def call(answers: list[float]) -> float:
        if not answers:
            raise Done("found")
        return answers.pop()

    for timer in (group.add_timer(0.01, call, [0, 0]), group.add_dynamic_timer(call, [0, 0])):
        assert timer.wait(5)
        assert (timer.runs, timer.failures, timer.result, timer.error) == (3, 0, "found", None)
    assert group.wait(5)


def test_a_timer_may_stop_on_an_exception_and_keeps_it(engine):
    group = threadgroup.create(engine)

    def fails() -> None:
        raise KeyError("DSN")

    with logged() as records:
        fixed = group.add_timer(0.01, fails, stop_on_exception=True)
        dynamic = group.add_dynamic_timer(fails, stop_on_exception=True)
        assert group.wait(5)
    assert len(records) == 2
    for timer in (fixed, dynamic):
        assert (timer.runs, timer.failures, timer.result) == (1, 1, None)
        assert isinstance(timer.error, KeyError)


def test_a_backoff_timer_tries_until_something_comes_of_it(engine):
    group = threadgroup.create(engine)
    answers = iter([None, KeyError("DSN"), "found"])

    def tries(what: str) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer and (what, answer)

    with logged() as records:
        timer = group.add_backoff_timer(tries, "x", delay=0.01)
        assert timer.wait(5)
    assert (timer.runs, timer.failures, timer.result, timer.error) == (3, 1, ("x", "found"), None)
    assert len(records) == 1


@pytest.mark.parametrize("how", ["raises", "returns"])
def test_a_backoff_timer_gives_up_and_says_so(engine, how):
    group = threadgroup.create(engine)

    def fails() -> None:
        if how == "raises":
            raise KeyError("DSN")

    with logged() as records:
        timer = group.add_backoff_timer(fails, delay=0.01, max_delay=0.02, timeout=0.1)
        assert timer.wait(5)
    assert timer.runs >= 2
    assert timer.result is None
    assert type(timer.error) is (KeyError if how == "raises" else TimeoutError)
    assert "fails failed" in records[-1]


def test_a_timer_that_is_stopped_at_once_stops_its_running_call(engine):
    group = threadgroup.create(engine)
    begun = group.event()

    def call() -> None:
        begun.set()
        group.sleep(LONG)

    running, other = group.add_timer(0.001, call), group.add_timer(LONG, int)
    assert begun.wait(5)
    running.stop()
    assert not running.wait(0.02), "what runs is finished"
    running.stop(graceful=False)
    assert running.wait(5)
    assert (running.result, running.error, other.done) == (None, None, False)


def test_a_machine_that_slept_misses_calls_and_keeps_the_beat():
    schedule = FixedSchedule(60.0, 60.0)
    assert schedule.following(1000.0, 1000.0 + 8 * 3600 + 5, None) == Tick(1000.0 + 8 * 3600 + 60, 480)


def timed(group: ThreadGroup, fn: Callable[[], object], timeout: float) -> Timer:
    """Start a timer whose calls may take so many seconds."""
    return group.start_timer(Task(fn, (), {}), FixedSchedule(0.01, 0.0), timeout)


def test_a_call_that_runs_too_long_is_told_of_once_with_its_stack_and_goes_on(engine):
    group = threadgroup.create(engine)
    go_on, finished, inside, most = group.event(), group.event(), [0], [0]

    def gets_stuck() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        go_on.wait()
        inside[0] -= 1
        if timer.runs >= 3:
            finished.set()

    with logged() as records:
        timer = timed(group, gets_stuck, 0.05)
        group.sleep(0.3)
        assert (timer.runs, timer.overruns) == (1, 1)
        assert len(records) == 1
        assert "gets_stuck: a call has run for more than 0.05 s and goes on" in records[0]
        assert "go_on.wait()" in records[0]
        go_on.set()
        assert finished.wait(5)
        group.stop(graceful=True)
        assert group.wait(5)
    assert most == [1]
    assert (timer.overruns, timer.failures) == (1, 0)
    assert timer.skipped > 10
    assert len(records) == 1


def test_a_call_that_gives_way_to_no_other_thread_is_told_of_once_all_the_same(engine):
    group = threadgroup.create(engine)

    def spins() -> None:
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        timer.stop()
        raise KeyError("DSN")

    with logged() as records:
        timer = timed(group, spins, 0.02)
        assert timer.wait(5)
        assert group.wait(5)
    assert (timer.runs, timer.overruns, timer.failures) == (1, 1, 1)
    told, failed = sorted(records, key=lambda record: "KeyError" in record)  # by two threads
    assert "spins: a call" in told
    assert "KeyError" in failed


def test_a_call_in_time_leaves_no_watch_behind(engine):
    group = threadgroup.create(engine)
    enough = group.event()
    timer = timed(group, sets(enough, lambda: timer.runs >= 5), LONG)
    with logged() as records:
        assert enough.wait(5)
        group.stop(graceful=True)
        assert group.wait(5)
    assert timer.overruns == 0
    assert records == []


def test_a_stop_at_once_ends_a_watched_call(engine):
    group = threadgroup.create(engine)
    begun = group.event()

    def call() -> None:
        begun.set()
        group.sleep(LONG)

    timer = timed(group, call, LONG)
    assert begun.wait(5)
    group.stop(graceful=False)
    assert group.wait(5)
    assert timer.done
