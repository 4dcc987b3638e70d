"""Methods that are called every so often: the decorator that marks them, and the mixin that gives each its timer."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from forkd.threadgroup.engine import Task
from forkd.threadgroup.schedules import FixedSchedule, JitteredSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.scoreboard import Board
    from forkd.threadgroup import ThreadGroup, Timer
    from forkd.threadgroup.schedules import Grid, Schedule

F = TypeVar("F", bound="Callable[..., Any]")

_MARKED = "_forkd_periodic"
_SPACING = 60.0  # seconds, where nothing is said


class Periodic(NamedTuple):
    """How a task is called, as `periodic_task` was told; times in seconds."""

    spacing: float
    run_immediately: bool = False
    enabled: bool = True
    jitter: float = 0.0
    timeout: float | None = None
    cron: str | None = None
    scope: str = "worker"

    def schedule(self) -> Grid:
        """Return a new schedule of its calls, for one worker."""
        return JitteredSchedule(self._grid(), self.jitter) if self.jitter else self._grid()

    def _grid(self) -> Grid:
        if self.cron is None:
            return FixedSchedule(self.spacing, 0.0 if self.run_immediately else self.spacing)
        from forkd.threadgroup.cron import CronSchedule  # lazy: only a service with such tasks pays for the parser

        return CronSchedule(self.cron, run_immediately=self.run_immediately)


@overload
def periodic_task(spacing: F) -> F: ...
@overload
def periodic_task(
    spacing: float = _SPACING,
    *,
    run_immediately: bool = False,
    enabled: bool = True,
    jitter: float = 0,
    timeout: float | None = None,
    cron: str | None = None,
    scope: str = "worker",
) -> Callable[[F], F]: ...
def periodic_task(  # noqa: PLR0913 -- what users may say of a task
    spacing: Any = _SPACING,
    *,
    run_immediately: bool = False,
    enabled: bool = True,
    jitter: float = 0,
    timeout: float | None = None,
    cron: str | None = None,
    scope: str = "worker",
) -> Any:
    """Have a method of a `Server` called every `spacing` seconds, in a thread of its own.

    `run_immediately`: the first time at once, not one spacing after the start. `enabled=False`: not at all.
    `jitter`: up to so many seconds later each time, drawn anew. `cron`: whenever this says so, in local time, instead
    of every so often; five fields, or a name such as `@daily`. `scope`: in every `worker`, or, of the whole `service`,
    in one worker of this host at a time. `timeout`: a call that runs for more seconds is logged with its stack and
    counted; it is not ended, since Python can end no call safely.

    Calls never overlap and never drift; what is missed during a long call is skipped; what the method raises is
    logged. A task that blocks delays no other. A subclass that overrides the method replaces the task: decorated
    anew, or not a task any more. `@periodic_task` alone is `@periodic_task()`.

    Raise `ValueError` for what makes no sense or is not yet supported (`scope="cluster"`), `TypeError` for what is no
    plain method.
    """
    if inspect.isroutine(spacing):
        return periodic_task()(spacing)
    how = Periodic(spacing, run_immediately, enabled, jitter, timeout, cron, scope)
    _check(how)
    return partial(_mark, how)


class PeriodicTasks:
    """A class whose `@periodic_task` methods can be started; each then has a timer of its own in `timers`, by name."""

    timers: dict[str, Timer]

    def start_periodic_tasks(self, group: ThreadGroup, board: Board, service: str | None = None) -> None:
        """Give each enabled task a timer in `group`, and a record on the `board`.

        `service` is who shares tasks of that scope with other workers; None: there are no others. Raise `ForkdError`
        when such a task cannot be shared.
        """
        self.timers = {}
        for name, how in self.periodic_tasks().items():
            if how.enabled:
                schedule = how.schedule() if service is None else _shared(how, service, name)
                task, record = Task(getattr(self, name), (), {}), board.record("task", name)
                self.timers[name] = group.start_timer(task, schedule, how.timeout, record)

    @classmethod
    def periodic_tasks(cls) -> dict[str, Periodic]:
        """Return the class's tasks by the name of their method, inherited ones first, the disabled ones too."""
        names = dict.fromkeys(name for home in reversed(cls.__mro__) for name in vars(home))
        found = {name: getattr(inspect.getattr_static(cls, name), _MARKED, None) for name in names}
        return {name: how for name, how in found.items() if isinstance(how, Periodic)}


def _shared(how: Periodic, service: str, task: str) -> Schedule:
    if how.scope == "worker":
        return how.schedule()
    from forkd.claim import Claim, ClaimedSchedule  # lazy: only workers that share tasks need it

    return ClaimedSchedule(how.schedule(), Claim(service, task), run_immediately=how.run_immediately)


def _mark(how: Periodic, method: F) -> F:
    if not inspect.isfunction(method):
        raise TypeError(f"@periodic_task decorates the function itself, below other decorators; got {method!r}")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"@periodic_task: {method.__qualname__} is a coroutine function, which no thread can run")
    setattr(method, _MARKED, how)
    return method


def _check(how: Periodic) -> None:
    _check_seconds("spacing", how.spacing)
    if how.jitter != 0:
        _check_seconds("jitter", how.jitter)
    if how.timeout is not None:
        _check_seconds("timeout", how.timeout)
    if how.scope == "cluster":
        raise ValueError("@periodic_task: scope='cluster' is not yet supported")
    if how.scope not in ("worker", "service"):
        raise ValueError(f"@periodic_task: scope: expected 'worker' or 'service', got {how.scope!r}")
    if how.cron is not None:
        _check_cron(how)


def _check_cron(how: Periodic) -> None:
    if not isinstance(how.cron, str):
        raise ValueError(f"@periodic_task: cron: expected an expression, got {how.cron!r}")  # noqa: TRY004 -- as others
    if how.spacing != _SPACING:
        raise ValueError(f"@periodic_task: cron={how.cron!r} takes the place of spacing={how.spacing!r}: give one")
    try:
        how.schedule()
    except ValueError as error:
        raise ValueError(f"@periodic_task: cron={how.cron!r}: {error}") from None


def _check_seconds(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 and math.isfinite(value)):
        raise ValueError(f"@periodic_task: {what}: expected more than 0 seconds, got {value!r}")
