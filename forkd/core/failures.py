"""What a failure comes to: a longer wait, a roll taken back, a service given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.tickets import RELOAD, RESTART, SCALE, resolve

if TYPE_CHECKING:
    from forkd.core.incarnation import Exit, Incarnation
    from forkd.core.service import Generation, Service
    from forkd.core.state import State


def of_worker(state: State, service: Service, worker: Incarnation, why: str, now: float) -> None:
    """Count the end of a worker that served and that nobody asked to stop.

    A roll ends with the second one of a slot in a row: code that never serves in all slots at once would roll for ever.
    """
    assert worker.slot is not None
    error, backoff = f"worker {worker.slot}: {why}", service.slot(worker.slot).backoff
    before = backoff.failing
    wait_after(service, worker, now)
    if before and backoff.failing and service.rolling and service.matches(worker, service.target):
        _blame(state, service, service.generations[worker.generation], error, now)
        return
    _count(state, service, error, now)


def wait_after(service: Service, worker: Incarnation, now: float) -> None:
    """Have the next worker of its slot wait, unless this one lived for long."""
    assert worker.slot is not None
    slot = service.slot(worker.slot)
    slot.restarts += 1
    slot.backoff.ended(service.generations[worker.generation].spec.restart, now - worker.born, now)


def of_start(state: State, service: Service, worker: Incarnation, why: str, now: float) -> None:
    """Count a worker that never served: a roll to its generation is over."""
    generation = service.generations[worker.generation]
    assert worker.slot is not None
    error = f"worker {worker.slot} failed to start: {why}"
    blamed = service.matches(worker, service.target)
    if blamed and service.rolling:
        _blame(state, service, generation, error, now)
        return
    service.slot(worker.slot).restarts += 1
    service.slot(worker.slot).backoff.ended(generation.spec.restart, 0.0, now)
    if blamed:
        _blame(state, service, generation, error, now)
    if worker.pid is not None or worker.error is not None:  # else its zygote died, which counts once
        _count(state, service, error, now)


def of_zygote(state: State, service: Service, generation: Generation, zygote: Incarnation, end: Exit) -> None:
    """Count a zygote that ended though nobody asked; one that never was ready ends a roll to its generation."""
    if generation.retired:
        return  # nobody needs it any more
    lived = 0.0 if zygote.ready_at is None else end.at - zygote.born
    generation.backoff.ended(generation.spec.restart, lived, end.at)
    if zygote.ready_at is not None:
        _count(state, service, f"zygote: {end.reason}", end.at)
        return
    what = "could not be started" if zygote.pid is None else "import failed"
    error = f"{what}: {end.reason}"
    rolling = service.rolling
    _blame(state, service, generation, error, end.at)
    if not rolling:
        _count(state, service, error, end.at)


def _blame(state: State, service: Service, generation: Generation, error: str, now: float) -> None:
    """Roll back if it is the target of a roll that failed; tell whoever waits."""
    if not service.active or generation.number != service.target.generation:
        return
    service.error = error
    if service.rolling:
        service.target = service.settled
        for slot in service.slots.values():
            slot.reset()
        state.tell("rolled_back", service, generation=service.target.generation, text=error)
    resolve(state, service.name, {RELOAD, RESTART, SCALE}, error, now)


def _count(state: State, service: Service, error: str, now: float) -> None:
    """Give the service up when it has failed too often within the time that its spec says, but not while it rolls."""
    spec = service.spec.restart
    if not (service.active and spec.max_restarts) or service.rolling:
        return  # what comes next may be better
    service.failures.append(now)
    while service.failures[0] <= now - spec.window:
        service.failures.popleft()
    if len(service.failures) > spec.max_restarts:
        service.failed = f"{len(service.failures)} failures within {spec.window:g} s, the last one: {error}"
        state.tell("service_failed", service, text=service.failed)
        resolve(state, service.name, {RELOAD, RESTART, SCALE}, service.failed, now)
