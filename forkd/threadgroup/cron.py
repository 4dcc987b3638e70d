"""Schedules by cron expressions, in local time; only where one is used is this imported."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import cronsim

from forkd.threadgroup.schedules import Clock, Grid, Tick

if TYPE_CHECKING:
    from collections.abc import Iterator

WALL = Clock(time.time, 60.0)  # nothing says that it was set, so it is looked at once a minute

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# How far back a clock may be set without a repetition of what has been called, as cron(8) of Debian has it: what is
# called at fixed times goes by the date, the rest by the time that has passed.
_FIXED, _RECURRING = 3 * 3600.0, 60.0
_MOST_SKIPPED = 1000  # a clock that was years behind is no reason to count for minutes


class CronSchedule(Grid):
    """The minutes of local time that a cron expression names, five fields or a name, as crontab(5) has it.

    What falls into an hour that the clocks leave out is called once, right after it; what falls into one that comes
    twice is called the first time only. As with Debian's cron that holds for calls at fixed times: an expression
    whose minute or hour begins with `*` goes by the time that has passed. When the wall clock is set forward, what
    it left out is called once; when it is set back, nothing is repeated unless it goes far.
    """

    clock = WALL

    def __init__(self, expression: str, *, run_immediately: bool = False) -> None:
        """Raise `ValueError` that says what is wrong with the expression."""
        self._expression = _NAMED.get(expression.strip().lower(), expression)
        self._run_immediately = run_immediately
        self._past = 0.0  # until here all calls have been made
        fields = self._expression.split()
        if len(fields) != 5:
            expected = "expected five fields: minute, hour, day of month, month, day of week"
            raise ValueError(f"{expected}; or {', '.join(_NAMED)}")
        self._tolerance = _RECURRING if fields[0].startswith("*") or fields[1].startswith("*") else _FIXED
        try:
            found = next(self._after(0.0), None)
        except cronsim.CronSimError as error:
            raise ValueError(str(error).lower()) from None
        if found is None:
            raise ValueError("there is no such day")

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        self._past = now
        return now if self._run_immediately else self._next(now)

    def following(self, due: float, now: float, result: Any) -> Tick:  # noqa: ARG002 -- part of the protocol
        """As in `Schedule`: the next instant that is not yet over."""
        self._past = max(due, now)
        for skipped, instant in zip(range(_MOST_SKIPPED), self._after(due)):  # noqa: B905 -- it has no end
            if instant >= now:
                return Tick(instant, skipped)
        return Tick(self._next(now), _MOST_SKIPPED)

    def confirm(self, due: float, now: float) -> float:
        """As in `Schedule`."""
        return due if now >= self._past - self._tolerance else self._restart(now)

    def resumed(self, ago: float, now: float) -> float:
        """As in `Grid`."""
        self._past = now
        return max(now, self._next(now - ago))

    def _restart(self, now: float) -> float:
        self._past = now
        return self._next(now)

    def _next(self, instant: float) -> float:
        return next(self._after(instant))

    def _after(self, instant: float) -> Iterator[float]:
        """Yield what comes after an instant, for ever."""
        for found in cronsim.CronSim(self._expression, dt.datetime.fromtimestamp(instant, _LOCAL)):
            # In an hour that comes for the second time, it begins with what was in the first.
            if found.timestamp() > instant:
                yield found.timestamp()


class _LocalTime(dt.tzinfo):
    """The machine's own time, whichever way TZ or /etc/localtime tells it; naive datetimes know it already."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> str | None:
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: dt.datetime) -> dt.datetime:
        naive = dt.datetime.fromtimestamp(when.replace(tzinfo=dt.UTC).timestamp())  # noqa: DTZ006 -- it has the fold
        return naive.replace(tzinfo=self)


_LOCAL = _LocalTime()
