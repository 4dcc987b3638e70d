"""What happened to incarnations, written into the records; what follows from it is for `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core import failures, stacks, vigil
from forkd.core.commands import KILL, SIGNALS
from forkd.core.events import Draining, Exited, Failed, Health, Ready, Recycle, Seen, Started
from forkd.core.incarnation import READY, STARTING, STOPPING, Checkup, Exit

if TYPE_CHECKING:
    from forkd.core.events import Fact
    from forkd.core.incarnation import Incarnation
    from forkd.core.service import Service
    from forkd.core.state import State


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
        case Exited():
            _exited(state, service, one, fact, now)
        case _:
            if one.slot is not None:
                _of_worker(state, service, one, fact, now)


def _of_worker(
    state: State, service: Service, worker: Incarnation, fact: Draining | Recycle | Health | Seen, now: float
) -> None:
    match fact:
        case Draining():
            _draining(state, service, worker, now)
        case Recycle(_, reason):
            if worker.phase == READY and worker.due is None:
                worker.due = f"recycled: {reason}"
                state.tell("recycling", service, worker, text=reason)
        case Health():
            _health(state, service, worker, fact, now)
        case _:
            if fact.stacks:
                state.tell("stacks", service, worker, text=fact.stacks)
                stacks.shown(worker)
            vigil.seen(state, service, worker, fact.beat_at, now)


def _ready(state: State, service: Service, one: Incarnation, now: float) -> None:
    if one.phase != STARTING or one.pid is None:
        return
    one.phase, one.deadline, one.ready_at, one.beat_at = READY, None, now, now
    one.asked = False  # it was asked before it had a pid, and never told: `rules` judges it anew
    state.tell("ready" if one.slot is not None else "imported", service, one)


def _draining(state: State, service: Service, worker: Incarnation, now: float) -> None:
    """Note that a worker stops of its own accord: where it will be replaced in any case, its slot is free at once."""
    if not worker.serving or worker.asked:
        return
    spec = service.generations[worker.generation].spec
    worker.phase, worker.draining, worker.deadline = STOPPING, True, now + spec.stop_timeout
    state.tell("draining", service, worker)
    if spec.restart.policy == "always" and not worker.hung:  # that is counted already
        if worker.ready_at is None:
            failures.of_start(state, service, worker, "was told to stop before it was ready", now)
        else:
            failures.wait_after(service, worker, now)


def _health(state: State, service: Service, worker: Incarnation, fact: Health, now: float) -> None:
    worker.checkup = Checkup(fact.failures, fact.text)
    if fact.unhealthy and worker.phase == READY and worker.due is None:
        worker.due = f"unhealthy: {fact.text}"
        state.tell("unhealthy", service, worker, text=fact.text)
        failures.of_worker(state, service, worker, worker.due, now)


def _exited(state: State, service: Service, one: Incarnation, fact: Exited, now: float) -> None:
    del state.living[one.id]
    end = Exit(now, fact.code, fact.signal, _reason(one, fact))
    policy = service.generations[one.generation].spec.restart.policy
    done = one.slot is not None and policy == "on-failure" and fact.code == 0 and not one.hung
    expected = done or one.asked or (one.draining and not one.hung)
    state.tell("exited", service, one, text=end.reason, ok=expected, stacks=fact.stacks or None)
    if one.slot is None:
        _zygote_exited(state, service, one, end)
        return
    del service.workers[one.id]
    service.slot(one.slot).exits.append(end)
    if one.asked or ((one.draining or one.hung) and policy == "always"):
        return  # counted already, as far as it counts
    if (done or policy == "never") and all(worker.slot != one.slot for worker in service.workers.values()):
        service.slot(one.slot).last = True
    if done:
        return
    if one.ready_at is None:
        failures.of_start(state, service, one, end.reason, now)
    else:
        failures.of_worker(state, service, one, end.reason, now)


def _zygote_exited(state: State, service: Service, zygote: Incarnation, end: Exit) -> None:
    generation = service.generations[zygote.generation]
    generation.zygote = None
    if not zygote.asked:
        failures.of_zygote(state, service, generation, zygote, end)


def _reason(one: Incarnation, fact: Exited) -> str:
    if fact.oom:
        return "killed by the kernel, which was out of memory"
    if one.error is not None:
        return one.error
    if one.asked:
        why = one.due or "stopped by the launcher"
        return why if fact.code == 0 else f"{why}, {_how(fact)}"
    if one.draining:
        return "drained after a signal from outside" if fact.code == 0 else f"while draining, {_how(fact)}"
    if fact.signal == KILL:
        return "killed by operator or kernel"
    return _how(fact)


def _how(fact: Exited) -> str:
    if fact.signal is not None:
        core = " and left a core file" if fact.core else ""
        return f"died of {SIGNALS.get(fact.signal, f'signal {fact.signal}')}{core}"
    return "lost before it announced itself" if fact.code is None else f"exited with code {fact.code}"
