"""Who is to be replaced though it lives: workers that give no sign of life, and those that are old enough.

A worker that was silent for `hang_timeout` is looked at a second time CONFIRM seconds later: what has just been
woken up, with a machine that slept, has its chance to beat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import STACKS, TERM, Look, Signal
from forkd.core.failures import of_worker
from forkd.core.incarnation import READY, STOPPING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.incarnation import Incarnation
    from forkd.core.service import Service
    from forkd.core.state import State

CONFIRM = 1.0  # seconds
_GOLDEN = 0.6180339887498949  # its multiples spread evenly over the unit interval, however many there are


def look(state: State, service: Service, now: float) -> Iterator[Command]:
    """Look at all workers once one must be looked at: few wake-ups are better than many."""
    if not any(at <= now for at in _looks(state, service)):
        return
    for worker in service.ready():
        if not worker.looking and service.generations[worker.generation].spec.hang_timeout:
            worker.looking = True
            yield Look(worker.id)


def seen(state: State, service: Service, worker: Incarnation, beat_at: float, now: float) -> None:
    """Write down when a worker gave its last sign of life, and whether it has been silent for too long."""
    worker.looking = False
    if beat_at <= now:  # a scoreboard that was written all over is no sign of life
        worker.beat_at = max(worker.beat_at, beat_at)
    timeout = service.generations[worker.generation].spec.hang_timeout
    if not timeout or worker.phase != READY or max(worker.beat_at, state.awake_since) + timeout > now:
        worker.silent_at = None
    elif worker.silent_at is None:
        worker.silent_at = now
    elif now >= worker.silent_at + CONFIRM and not worker.hung:
        worker.hung = True
        worker.error = f"hung: no heartbeat for {timeout:g} s"
        state.tell("hung", service, worker, text=worker.error)
        if service.generations[worker.generation].spec.restart.policy == "always":
            of_worker(state, service, worker, worker.error, now)


def give_up_hung(service: Service, now: float) -> Iterator[Command]:
    """Have those that hang dump their stacks and stop; their slots are free at once."""
    for worker in service.ready():
        if worker.hung:
            worker.phase, worker.draining = STOPPING, True
            worker.deadline = now + service.generations[worker.generation].spec.kill_timeout
            yield Signal(worker.id, STACKS)
            yield Signal(worker.id, TERM)


def retire_old(state: State, service: Service, now: float) -> None:
    """Have those replaced that are as old as `recycle` lets them get."""
    for old_at, worker in _ages(service):
        if old_at <= now:
            reason = f"{now - worker.born:.0f} s old"
            worker.due = f"recycled: {reason}"
            state.tell("recycling", service, worker, text=reason)


def next_deadline(state: State, service: Service) -> Iterator[float]:
    """Yield the instants at which somebody must be looked at or gets too old."""
    yield from _looks(state, service)
    for old_at, _ in _ages(service):
        yield old_at


def _looks(state: State, service: Service) -> Iterator[float]:
    """Yield when each generation's workers are to be looked at next, and each worker that was found silent."""
    ready = [worker for worker in service.workers.values() if worker.phase == READY and not worker.looking]
    for number, generation in service.generations.items():
        timeout = generation.spec.hang_timeout
        beats = [worker.beat_at for worker in ready if worker.generation == number and worker.silent_at is None]
        if timeout and beats:
            yield max(min(beats), state.awake_since) + timeout
    for worker in ready:
        if worker.silent_at is not None:
            yield worker.silent_at + CONFIRM


def _ages(service: Service) -> Iterator[tuple[float, Incarnation]]:
    """Yield when each worker is too old: sooner by up to `jitter`, so that those born together do not go together."""
    recycles = {number: one.spec.recycle for number, one in service.generations.items() if one.spec.recycle.age}
    for worker in service.ready() if recycles else ():
        if worker.generation in recycles and worker.due is None:
            recycle = recycles[worker.generation]
            yield worker.born + recycle.age * (1 - recycle.jitter * (worker.id * _GOLDEN % 1)), worker
