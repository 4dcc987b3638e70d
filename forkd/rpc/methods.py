"""What may be called on a server: its public methods, each with the arguments it takes; runs none of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from forkd.errors import ForkdError
from forkd.rpc.errors import BadArguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.periodic import PeriodicTasks

F = TypeVar("F", bound="Callable[..., Any]")

_MARKED = "_forkd_idempotent"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def idempotent(method: F) -> F:
    """Mark a method of an `rpc.Server` that may run twice for one call: the call is sent again if its worker is lost.

    Once at most. All others run once or, when their worker is lost, once or not at all.
    """
    setattr(method, _MARKED, True)
    return method


class Method:
    """One callable method. Arguments come by name only; `context` is the call's own and no argument."""

    __slots__ = ("_known", "_needed", "_open", "_signature", "_taken", "fn", "idempotent", "name", "wants_context")

    def __init__(self, name: str, fn: Callable[..., Any]) -> None:
        self.name = name
        self.fn = fn
        self.idempotent = getattr(fn, _MARKED, False) is True
        self._signature = inspect.signature(fn)
        parameters = self._signature.parameters.values()
        if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
            raise ForkdError(f"{fn.__qualname__} is a coroutine function, which no thread of a service can run")
        if any(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
            raise ForkdError(f"{fn.__qualname__} has positional-only parameters, which no remote caller can give")
        named = [p for p in parameters if p.kind in _NAMED]
        self.wants_context = any(p.name == "context" for p in named)
        self._known = frozenset(p.name for p in named) - {"context"}
        self._needed = frozenset(p.name for p in named if p.default is p.empty) - {"context"}
        self._open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._taken = {"context"} if self.wants_context else set()
        if inspect.ismethod(fn):  # `self` or `cls`: a method of any keywords cannot get it by name once more
            first = next(iter(inspect.signature(fn.__func__).parameters.values()))
            self._taken |= {first.name} if first.kind is first.POSITIONAL_OR_KEYWORD else set()

    def check(self, args: dict[str, Any]) -> None:
        """Raise `BadArguments`, which says why, unless the method can be called with these."""
        names = args.keys()
        if self._needed <= names and (self._open or names <= self._known) and names.isdisjoint(self._taken):
            return
        if not names.isdisjoint(self._taken):
            raise BadArguments(f"{min(names & self._taken)} is the call's own and cannot be given as an argument")
        offered = dict.fromkeys(names | self._taken & {"context"})
        try:
            self._signature.bind(**offered)
        except TypeError as error:
            raise BadArguments(str(error)) from None


def public_methods(server: PeriodicTasks, base: type) -> dict[str, Method]:
    """Return the methods of `server` that may be called, by name.

    Public is what its class or a parent below `base` defines as a function (plain, static or of the class) under a
    name without a leading underscore that `base` does not have. Periodic tasks are not: run from outside they could
    overlap with themselves. Nothing that is found in the instance, computed by a property or reached through a dot
    is ever called. Raise `ForkdError` for a method that could never be called.
    """
    cls = type(server)
    hidden = cls.periodic_tasks()
    methods = {}
    for name in dir(cls):
        if name.startswith("_") or name in hidden or not _is_method(inspect.getattr_static(cls, name)):
            continue
        if not hasattr(base, name):
            methods[name] = Method(name, getattr(server, name))
        elif not callable(getattr(base, name)):
            raise ForkdError(f"{cls.__qualname__}.{name}: forkd.rpc.Server has an attribute of this name, not a method")
    return methods


def _is_method(static: object) -> bool:
    return inspect.isfunction(static) or isinstance(static, (staticmethod, classmethod))
