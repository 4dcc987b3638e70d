"""Tasks by cron expressions: which instants they name, over changes of daylight saving time and steps of the clock."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from forkd.threadgroup.cron import CronSchedule
from forkd.threadgroup.schedules import JitteredSchedule, Tick
from tests.library.virtual_time import VirtualTime

HOUR, DAY = 3600.0, 86400.0
ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"  # Central Europe, in a form that needs no file


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    """Be in Central Europe, where clocks go from 2 to 3 on 2026-03-29, and from 3 to 2 on 2026-10-25."""
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    """Return the instant of a local time, or of one with its offset."""
    return dt.datetime.fromisoformat(text).timestamp()


def local(instant: float) -> str:
    return dt.datetime.fromtimestamp(instant).astimezone().isoformat(timespec="minutes")


def named(expression: str, start: str, count: int) -> list[str]:
    """Return what an expression names after an instant."""
    schedule = CronSchedule(expression)
    due = schedule.first(at(start))
    found = [due]
    while len(found) < count:
        due = schedule.following(due, due, None).due
        found.append(due)
    return [local(instant) for instant in found]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["2026-01-01T10:31", "2026-01-01T10:32"]),
        ("*/20 * * * *", ["2026-01-01T10:40", "2026-01-01T11:00"]),
        ("5,10-12/2 8 * * *", ["2026-01-02T08:05", "2026-01-02T08:10", "2026-01-02T08:12"]),
        ("0 3 * * *", ["2026-01-02T03:00", "2026-01-03T03:00"]),
        ("0 0 1 FEB,mar *", ["2026-02-01T00:00", "2026-03-01T00:00"]),
        ("0 0 * * mon-TUE", ["2026-01-05T00:00", "2026-01-06T00:00"]),
        ("0 0 * * 7", ["2026-01-04T00:00"]),
        ("0 0 13 * 5", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]),  # the one or the other
        ("0 0 */2 * 5", ["2026-01-09T00:00", "2026-01-23T00:00"]),  # both: one begins with a star
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("@hourly", ["2026-01-01T11:00", "2026-01-01T12:00"]),
        ("@daily", ["2026-01-02T00:00"]),
        ("@midnight", ["2026-01-02T00:00"]),
        (" @Weekly ", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@monthly", ["2026-02-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00"]),
        ("@annually", ["2027-01-01T00:00"]),
    ],
)
def test_what_an_expression_names(expression, expected):
    found = named(expression, "2026-01-01T10:30:00", len(expected))
    assert [instant.removesuffix("+01:00") for instant in found] == expected


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("0 0 0 * *", "bad day-of-month"),
        ("0 0 1 13 *", "bad month"),
        ("0 0 * * yesterday", "bad day-of-week"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */31 * mon#2", "there is no such day"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("1,, * * * *", "bad minute"),
        ("0 3 * *", "expected five fields"),
        ("0 0 3 * * *", "expected five fields"),
        ("", "expected five fields"),
        ("@reboot", "expected five fields.*or @hourly"),
    ],
)
def test_what_is_wrong_with_an_expression_is_said(expression, wrong):
    with pytest.raises(ValueError, match=wrong):
        CronSchedule(expression)


def test_an_hour_that_does_not_exist_runs_once_right_after_it():
    assert named("0,30 2 * * *", "2026-03-28T02:30", 3) == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:00+02:00",
        "2026-03-30T02:30+02:00",
    ]


def test_an_hour_that_comes_twice_runs_once():
    assert named("30 2 * * *", "2026-10-24T12:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert named("30 2 * * *", "2026-10-25T02:10+01:00", 1) == ["2026-10-26T02:30+01:00"], "a start in the second one"


def test_what_recurs_goes_by_the_time_that_passes():
    assert named("*/30 * * * *", "2026-03-29T01:15", 3) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:30+02:00",
    ]
    assert named("0 * * * *", "2026-10-25T01:30", 3) == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T03:00+01:00",
    ]


def test_an_instant_that_is_over_is_skipped_and_one_of_this_moment_is_not():
    schedule = CronSchedule("*/10 * * * *")
    due = at("2026-01-01T10:00")
    assert schedule.following(due, due + 5, None) == Tick(due + 600)
    assert schedule.following(due, due + 600, None) == Tick(due + 600)
    assert schedule.following(due, due + 601, None) == Tick(due + 1200, 1)
    assert schedule.retry(due, due + 3000.5) == Tick(due + 3600, 5)


def test_years_that_the_clock_was_behind_are_not_counted_by_the_minute():
    schedule = CronSchedule("* * * * *")
    assert schedule.following(at("1970-01-02T00:00"), at("2026-01-01T10:00:30"), None) == Tick(
        at("2026-01-01T10:01"), 1000
    )


def test_the_clock_is_looked_at_once_a_minute_and_no_call_is_late():
    virtual = VirtualTime(3 * DAY, start=at("2026-01-01T10:00:20"), takes=[40.0])
    timer = virtual.run(CronSchedule("0 3 * * *"))
    assert [local(virtual.start + call) for call in virtual.calls] == [
        f"2026-01-0{day}T03:00+01:00" for day in (2, 3, 4)
    ]
    assert max(virtual.waits) == 60.0
    assert len(virtual.waits) <= 3 * DAY / 60 + 3
    assert (timer.max_lateness, timer.skipped) == (0.0, 0)


def test_it_can_run_immediately_too():
    virtual = VirtualTime(2 * HOUR, start=at("2026-01-01T10:30"), takes=[2.0])
    virtual.run(CronSchedule("@hourly", run_immediately=True))
    assert virtual.calls == [0, 1800, 5400]


def test_a_clock_set_forward_calls_once_what_it_leaves_out():
    virtual = VirtualTime(6 * HOUR, start=at("2026-01-01T10:30"), steps=[(HOUR, 30 * DAY)])
    timer = virtual.run(CronSchedule("@hourly"))
    assert [round(call % (30 * DAY) / HOUR, 3) for call in virtual.calls] == [0.5, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert timer.skipped == 30 * 24 - 1
    assert timer.max_lateness == pytest.approx(30 * DAY - HOUR / 2, abs=61)


@pytest.mark.parametrize("back", [0.5, 30.0])
def test_a_clock_set_back_a_little_repeats_nothing(back):
    virtual = VirtualTime(600, start=at("2026-01-01T10:00:30"), steps=[(91.0, -back)])
    virtual.run(CronSchedule("* * * * *"))
    assert virtual.calls == [30.0 + 60 * minute for minute in range(len(virtual.calls))]
    assert len(virtual.calls) >= 9


def test_a_clock_set_back_by_an_hour_repeats_what_recurs_and_nothing_at_a_fixed_time():
    start, back = at("2026-01-01T02:30"), [(HOUR, -HOUR)]
    virtual = VirtualTime(3 * HOUR, start=start, steps=back)
    virtual.run(CronSchedule("*/15 * * * *"))
    assert virtual.calls == [900.0 * quarter for quarter in (1, 2, 3, 1, 2, 3, 4, 5, 6, 7)]
    virtual = VirtualTime(2 * DAY, start=start, steps=back)
    virtual.run(CronSchedule("0 3 * * *"))
    assert [local(start + call) for call in virtual.calls] == ["2026-01-01T03:00+01:00", "2026-01-02T03:00+01:00"]


def test_a_clock_that_was_years_ahead_does_not_starve_a_task():
    virtual = VirtualTime(
        2 * DAY, start=at("2036-05-05T10:30"), steps=[(HOUR, at("2026-01-01T00:00") - at("2036-05-05T00:00"))]
    )
    virtual.run(CronSchedule("0 3 * * *"))
    assert [local(virtual.start + call) for call in virtual.calls] == [
        "2026-01-02T03:00+01:00",
        "2026-01-03T03:00+01:00",
    ]


def test_jitter_comes_on_top():
    draws = iter([0.5, 0.0, 1.0] * 10)
    schedule = JitteredSchedule(CronSchedule("@hourly"), 600, lambda low, high: low + (high - low) * next(draws))
    virtual = VirtualTime(4 * HOUR, start=at("2026-01-01T10:30"), steps=[(2 * HOUR, -1.0)])
    virtual.run(schedule)
    assert virtual.calls == [1800 + 300, 5400, 9000 + 600, 12600 + 300]
    virtual = VirtualTime(2 * DAY, start=at("2026-01-03T10:30"), steps=[(HOUR, -2 * DAY)])
    virtual.run(JitteredSchedule(CronSchedule("0 3 * * *"), 60, lambda low, high: high))
    assert [local(virtual.start + call) for call in virtual.calls] == [
        "2026-01-02T03:01+01:00",
        "2026-01-03T03:01+01:00",
    ]
