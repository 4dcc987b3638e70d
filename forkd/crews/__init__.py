"""Threads of a service's group that serve what comes, and the loop that tells what comes; one way for each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from forkd.crews.crew import Crew, Reader, T

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.threadgroup import ThreadGroup

__all__ = ["Crew", "Crews", "Reader", "crews_of"]


class Crews(Protocol):
    """What makes a crew, of one engine."""

    def __call__(self, group: ThreadGroup, serve: Callable[[T], None], most_waiting: int | None = None) -> Crew[T]:
        """As `Crew`."""


def crews_of(concurrency: str) -> Crews:
    """Import what makes the crews of a concurrency and return it: done before a fork, its workers need not."""
    if concurrency == "eventlet":
        from forkd.crews.green import GreenCrew  # lazy: only an eventlet service may import eventlet

        return GreenCrew
    from forkd.crews.native import NativeCrew  # lazy: the other engine, likewise imported only where it is used

    return NativeCrew
