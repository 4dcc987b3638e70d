"""Methods that are called every so often: the decorator that marks them, and the mixin that gives each its timer."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from forkd.errors import ForkdError
from forkd.threadgroup.engine import Task
from forkd.threadgroup.schedules import FixedSchedule, JitteredSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.lease.cluster import Cluster
    from forkd.scoreboard import Board
    from forkd.threadgroup import ThreadGroup, Timer
    from forkd.threadgroup.schedules import Grid, Schedule


class Sharing(NamedTuple):
    """With whom a process shares its tasks: the workers of a `service` on this host, and those of all hosts.

    `service` is None where there are no others. `lease` says who has which task of the cluster, and `holder` who asks.
    """

    name: str = ""
    service: str | None = None
    lease: str | None = None
    holder: str = ""


F = TypeVar("F", bound="Callable[..., Any]")

_MARKED = "_forkd_periodic"
_SPACING = 60.0  # seconds, where nothing is said
_SCOPES = ("worker", "service", "cluster")
NEEDS_LEASE = (
    "a task with scope='cluster' needs to know where leases are kept: set `lease` beside `services`, as in "
    "`lease: redis://127.0.0.1:6379/0`, or `lease` of a Service of your own"
)


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
        return JitteredSchedule(self.grid(), self.jitter) if self.jitter else self.grid()

    def grid(self) -> Grid:
        """Return the same without jitter."""
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
    in one worker of this host at a time, or, of the whole `cluster`, in one of all hosts: then a parameter `lease` of
    the method gets the run's `Lease`. `timeout`: a call that runs for more seconds is logged with its stack and
    counted; it is not ended, since Python can end no call safely.

    Calls never overlap and never drift; what is missed during a long call is skipped; what the method raises is
    logged. A task that blocks delays no other. A subclass that overrides the method replaces the task: decorated
    anew, or not a task any more. `@periodic_task` alone is `@periodic_task()`.

    Raise `ValueError` for what makes no sense, `TypeError` for what is no plain method.
    """
    if inspect.isroutine(spacing):
        return periodic_task()(spacing)
    how = Periodic(spacing, run_immediately, enabled, jitter, timeout, cron, scope)
    _check(how)
    return partial(_mark, how)


ALONE = Sharing()


class PeriodicTasks:
    """A class whose `@periodic_task` methods can be started; each then has a timer of its own in `timers`, by name."""

    timers: dict[str, Timer]

    def start_periodic_tasks(self, group: ThreadGroup, board: Board, sharing: Sharing = ALONE) -> None:
        """Give each enabled task a timer in `group`, and a record on the `board`.

        Raise `ForkdError` when a task that is to be shared with other workers cannot be.
        """
        self.timers = {}
        tasks = {name: how for name, how in self.periodic_tasks().items() if how.enabled}
        cluster = _cluster(sharing) if any(how.scope == "cluster" for how in tasks.values()) else None
        for name, how in tasks.items():
            method, record = getattr(self, name), board.record("task", name)
            if how.scope == "cluster" and cluster is not None:
                task, leased = cluster.share(name, how, method, group)
                self.timers[name] = group.start_timer(task, leased, how.timeout, record)
            else:
                schedule = _schedule(how, sharing.service, name)
                self.timers[name] = group.start_timer(Task(method, (), {}), schedule, how.timeout, record)

    @classmethod
    def periodic_tasks(cls) -> dict[str, Periodic]:
        """Return the class's tasks by the name of their method, inherited ones first, the disabled ones too."""
        names = dict.fromkeys(name for home in reversed(cls.__mro__) for name in vars(home))
        found = {name: getattr(inspect.getattr_static(cls, name), _MARKED, None) for name in names}
        return {name: how for name, how in found.items() if isinstance(how, Periodic)}


def _schedule(how: Periodic, service: str | None, task: str) -> Schedule:
    if how.scope == "worker" or service is None:
        return how.schedule()
    from forkd.claim import Claim, ClaimedSchedule  # lazy: only workers that share tasks need it

    return ClaimedSchedule(how.schedule(), Claim(service, task), run_immediately=how.run_immediately)


def _cluster(sharing: Sharing) -> Cluster:
    if sharing.lease is None:
        raise ForkdError(NEEDS_LEASE)
    from forkd.lease.cluster import Cluster  # lazy: as above

    return Cluster(sharing.lease, sharing.name, sharing.holder)


def _mark(how: Periodic, method: F) -> F:
    if not inspect.isfunction(method):
        raise TypeError(f"@periodic_task decorates the function itself, below other decorators; got {method!r}")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"@periodic_task: {method.__qualname__} is a coroutine function, which no thread can run")
    lease = inspect.signature(method).parameters.get("lease")
    if lease is not None and lease.default is lease.empty and how.scope != "cluster":
        raise ValueError(f"@periodic_task: {method.__qualname__}: only scope='cluster' has a lease to give")
    setattr(method, _MARKED, how)
    return method


def _check(how: Periodic) -> None:
    _check_seconds("spacing", how.spacing)
    if how.jitter != 0:
        _check_seconds("jitter", how.jitter)
    if how.timeout is not None:
        _check_seconds("timeout", how.timeout)
    if how.scope not in _SCOPES:
        raise ValueError(f"@periodic_task: scope: expected 'worker', 'service' or 'cluster', got {how.scope!r}")
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
