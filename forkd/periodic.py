"""Methods that are called every so often: the decorator that marks them, and the mixin that gives each its timer."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup, Timer

F = TypeVar("F", bound="Callable[..., Any]")

_MARK = "_forkd_periodic"
_LATER = {"jitter": 0, "timeout": None, "cron": None, "scope": "worker"}


class Periodic(NamedTuple):
    """How often a task is called, in seconds, and whether the first time is at once."""

    spacing: float
    run_immediately: bool
    enabled: bool


@overload
def periodic_task(spacing: F) -> F: ...
@overload
def periodic_task(
    spacing: float = 60, *, run_immediately: bool = False, enabled: bool = True, **later: Any
) -> Callable[[F], F]: ...
def periodic_task(spacing: Any = 60, *, run_immediately: bool = False, enabled: bool = True, **later: Any) -> Any:
    """Have a method of a `Server` called every `spacing` seconds in every worker, in a thread of its own.

    The first call comes one spacing after the start, or at once with `run_immediately`. Calls never overlap and
    never drift; ticks missed during a long call are skipped; what the method raises is logged and the next tick
    comes. A task that blocks delays no other. `enabled=False` keeps the method and drops its timer. A subclass that
    overrides the method replaces the task: decorated anew, or not a task any more. `@periodic_task` alone is
    `@periodic_task()`.

    Raise `ValueError` for a spacing that is no time, and for `jitter`, `timeout`, `cron` and `scope`, which are not
    yet supported; `TypeError` for an unknown argument and for what is no plain method.
    """
    if inspect.isroutine(spacing):
        return periodic_task()(spacing)
    _refuse_later(later)
    how = Periodic(_spacing(spacing), bool(run_immediately), bool(enabled))

    def mark(method: F) -> F:
        if not inspect.isfunction(method):
            raise TypeError(f"@periodic_task decorates the function itself, below other decorators; got {method!r}")
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise TypeError(f"@periodic_task: {method.__qualname__} is a coroutine function, which no thread can run")
        setattr(method, _MARK, how)
        return method

    return mark


class PeriodicTasks:
    """A class whose `@periodic_task` methods can be started; each then has a timer of its own in `timers`, by name."""

    timers: dict[str, Timer]

    def start_periodic_tasks(self, group: ThreadGroup) -> None:
        """Give each enabled task a timer in `group`."""
        self.timers = {}
        for name, how in self.periodic_tasks().items():
            if how.enabled:
                first = 0 if how.run_immediately else how.spacing
                self.timers[name] = group.add_timer(how.spacing, getattr(self, name), initial_delay=first)

    @classmethod
    def periodic_tasks(cls) -> dict[str, Periodic]:
        """Return the class's tasks by the name of their method, inherited ones first, the disabled ones too."""
        names = dict.fromkeys(name for home in reversed(cls.__mro__) for name in vars(home))
        found = {name: getattr(inspect.getattr_static(cls, name), _MARK, None) for name in names}
        return {name: how for name, how in found.items() if isinstance(how, Periodic)}


def _spacing(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 and math.isfinite(value)):
        raise ValueError(f"@periodic_task: spacing: expected more than 0 seconds, got {value!r}")
    return float(value)


def _refuse_later(later: dict[str, Any]) -> None:
    for key, value in later.items():
        if key not in _LATER:
            raise TypeError(f"@periodic_task: unknown argument {key!r}")
        if value != _LATER[key]:
            raise ValueError(f"@periodic_task: {key}={value!r} is not yet supported")
