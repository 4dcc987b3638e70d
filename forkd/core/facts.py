"""What happened to incarnations, written into the records; what follows from it is for `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import KILL, SIGNALS
from forkd.core.events import Draining, Exited, Failed, Ready, Started
from forkd.core.state import READY, RUNNING, STARTING, STOPPING, Exit
from forkd.core.tickets import RELOAD, RESTART, resolve

if TYPE_CHECKING:
    from forkd.core.events import Fact
    from forkd.core.state import Generation, Incarnation, Service, State


def observe(state: State, fact: Fact, now: float) -> None:
    """Write down a fact; one about an incarnation that is already dead changes nothing."""
    if fact.id not in state.living:
        return
    service, one = state.living[fact.id]
    match fact:
        case Started(_, pid):
            if one.pid is None:
                one.pid = pid
                state.tell("spawned" if one.slot is not None else "zygote_started", service, one)
        case Ready():
            _ready(state, service, one, now)
        case Failed(_, error, traceback):
            one.error = one.error or error
            state.tell("failed" if one.slot is not None else "import_failed", service, one, text=traceback or error)
        case Draining():
            _draining(state, service, one, now)
        case Exited():
            _exited(state, service, one, fact, now)


def _ready(state: State, service: Service, one: Incarnation, now: float) -> None:
    if one.phase != STARTING or one.pid is None:
        return
    one.phase, one.deadline, one.ready_at = READY, None, now
    one.asked = False  # it was asked before it had a pid, and never told: `rules` judges it anew
    state.tell("ready" if one.slot is not None else "imported", service, one)


def _draining(state: State, service: Service, one: Incarnation, now: float) -> None:
    """Note that a worker stops of its own accord: its slot is free at once, by the backoff of how long it lived."""
    if not one.serving or one.slot is None or one.asked:
        return
    spec = service.generations[one.generation].spec
    one.phase, one.draining, one.deadline = STOPPING, True, now + spec.stop_timeout
    state.tell("draining", service, one)
    if one.ready_at is None:
        _failed_start(state, service, one, "was told to stop before it was ready", now)
    else:
        _count(service, one, now)


def _exited(state: State, service: Service, one: Incarnation, fact: Exited, now: float) -> None:
    del state.living[one.id]
    end = Exit(now, fact.code, fact.signal, _reason(one, fact))
    state.tell("exited", service, one, text=end.reason, ok=one.asked or one.draining)
    if one.slot is None:
        _zygote_exited(state, service, one, end)
        return
    del service.workers[one.id]
    service.slot(one.slot).exits.append(end)
    if one.asked or one.draining:
        return
    if one.ready_at is None:
        _failed_start(state, service, one, end.reason, now)
    else:
        _count(service, one, now)


def _zygote_exited(state: State, service: Service, zygote: Incarnation, end: Exit) -> None:
    generation = service.generations[zygote.generation]
    generation.zygote = None
    if zygote.asked:
        return
    if zygote.ready_at is not None:
        generation.backoff.ended(generation.spec.restart, end.at - zygote.born, end.at)
        return
    generation.backoff.ended(generation.spec.restart, 0.0, end.at)
    what = "could not be started" if zygote.pid is None else "import failed"
    _blame(state, service, generation, f"{what}: {end.reason}", end.at)


def _failed_start(state: State, service: Service, worker: Incarnation, why: str, now: float) -> None:
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


def _blame(state: State, service: Service, generation: Generation, error: str, now: float) -> None:
    """Roll back if it is the target of a roll that failed; tell whoever waits."""
    if service.wanted != RUNNING or generation.number != service.target.generation:
        return
    service.error = error
    if service.rolling:
        service.target = service.settled
        for slot in service.slots.values():
            slot.backoff.reset()
        state.tell("rolled_back", service, generation=service.target.generation, text=error)
    resolve(state, service.name, {RELOAD, RESTART}, error, now)


def _count(service: Service, worker: Incarnation, now: float) -> None:
    assert worker.slot is not None
    slot = service.slot(worker.slot)
    slot.restarts += 1
    slot.backoff.ended(service.generations[worker.generation].spec.restart, now - worker.born, now)


def _reason(one: Incarnation, fact: Exited) -> str:
    if one.error is not None:
        return one.error
    if one.asked:
        return "stopped by the launcher" if fact.code == 0 else f"stopped by the launcher, {_how(fact)}"
    if one.draining:
        return "drained after a signal from outside" if fact.code == 0 else f"while draining, {_how(fact)}"
    if fact.signal == KILL:
        return "killed by operator or kernel"
    return _how(fact)


def _how(fact: Exited) -> str:
    if fact.signal is not None:
        return f"died of {SIGNALS.get(fact.signal, f'signal {fact.signal}')}"
    return "lost before it announced itself" if fact.code is None else f"exited with code {fact.code}"
