"""Which service starts after which, and stops before it; once it has begun, a service outlives what it came after.

The reload of one service, and a rollback, may leave orders of several generations that make a circle together: there
nobody waits for anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forkd.core.service import Service
    from forkd.core.state import State


def begin(state: State, service: Service) -> bool:
    """Tell whether a service may start, or has: each one that it comes after was ready once since it stopped last."""
    if service.begun:
        return True
    waits = [name for name in service.spec.after if not (_is_ready(state, name) or _is_circular(state, name, service))]
    if waits and waits != service.waits:
        state.tell("waiting", service, text=f"waits for {', '.join(waits)}")
    service.waits, service.begun = waits, not waits
    return service.begun


def is_held(state: State, service: Service) -> bool:
    """Tell whether a service that is to stop must not yet: one that comes after it stops first."""
    if service.quick:
        return False
    later = [other for other in state.services.values() if not other.active and not other.at_rest]
    return any(service.name in other.spec.after and not _is_circular(state, service.name, other) for other in later)


def hindrance(state: State, service: Service) -> str | None:
    """Return what keeps a service from starting for as long as nobody does anything about it; None for nothing."""
    return _hindrance(state, service, set())


def _hindrance(state: State, service: Service, seen: set[str]) -> str | None:
    """Look for it among those that it waits for, and that were not `seen` yet, and so on."""
    for name in service.waits:
        if name in seen:
            continue
        seen.add(name)
        other = state.services.get(name)
        if other is None or not other.active:
            how = "not there" if other is None else "failed" if other.failed else "stopped"
            return f"waits for {name}, which is {how}"
        why = (
            _ended_badly(other, other.size) or other.error or (None if other.begun else _hindrance(state, other, seen))
        )
        if why is not None:
            return f"waits for {name}: {why}"
    return None


def _is_circular(state: State, name: str, service: Service) -> bool:
    """Tell whether the one with this name, which the service comes after, comes after the service in its turn."""
    names = [name]
    for one in names:  # which grows
        if one in state.services:
            names += [before for before in state.services[one].spec.after if before not in names]
    return service.name in names


def _is_ready(state: State, name: str) -> bool:
    """Tell whether every worker that a service is to have serves, be it an older one that is about to be replaced."""
    other = state.services.get(name)
    if other is None or not (other.active and other.begun):
        return False
    generation = other.generations[other.settled.generation]
    serves = {w.slot for w in other.ready()}.issuperset(other.wanted_slots(generation))
    return generation.imported and serves and _ended_badly(other, generation.workers) is None


def _ended_badly(service: Service, size: int) -> str | None:
    """Return how one of so many workers ended that nobody follows, unless it did what it was there for."""
    for index, slot in service.slots.items():
        if slot.last and slot.exits[-1].code != 0 and index < size:
            return f"worker {index} ended: {slot.exits[-1].reason}"
    return None
