"""The rules that bring a service from what it is to what is wanted. Each turn applies all of them.

1. An incarnation past its deadline climbs the ladder: ABRT (it dumps its stacks), `kill_timeout`, KILL.
2. A running service has a zygote of its target and, while it rolls, of what it would roll back to;
   one that ended is started anew after its backoff.
3. An empty slot is filled from the target, or while that still imports from what served before: after
   the slot's backoff, at most `surge` workers above the wanted number, slots that nobody serves first,
   and no more at once than a zygote can hear.
4. A worker is stopped when a better one serves its slot, when it is not wanted and serves nothing yet,
   or when its slot is gone and enough others serve. `reload: restart` stops what is stale at once.
5. A service that is to stop has every worker told so once.
6. A roll is over when every slot has a ready worker of the target and nothing stale lives; who waits for it
   is told when the old zygote is gone too, and with it the last who may hold an address that was given up.
7. A generation that nothing needs and no worker lives of is retired. One that is to stop is so at once, which
   closes its listeners; nothing new is started then before all of it has gone.

A plan changes the records as if its commands had been performed, so planning again gives nothing new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import ABRT, HUP, KILL, QUIT, TERM, Retire, Signal, Spawn, StartZygote
from forkd.core.state import KILLED, READY, RUNNING, STARTING, STOPPING, Incarnation
from forkd.core.tickets import RELOAD, RESTART, STOP, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.state import Generation, Service, State

# Workers that were ordered and have not announced themselves: a zygote forks one after the other, so
# more would only wait in its channel, whose room is small, while their `start_timeout` runs.
STARTS_AT_ONCE = 64


def apply(state: State, service: Service, now: float) -> Iterator[Command]:
    """Yield what is to be done for a service now.

    What changes a record without a command (a worker that has no pid yet is only marked) comes before
    what heeds it: a pass that yields nothing must leave nothing to the next one.
    """
    if service.wanted == RUNNING:
        yield from _start_zygotes(state, service, now)
        yield from _reset_in_place(service)
        yield from _stop_replaced(service, now)
    else:
        for worker in list(service.workers.values()):
            yield from _stop(service, worker, now)
    _hurry(service, now)
    yield from _climb(service, now)
    if service.wanted == RUNNING:
        yield from _fill_slots(state, service, now)
    _conclude(state, service, now)
    yield from _retire(service)


def next_deadline(service: Service, now: float) -> float | None:
    """Return when the service next needs a turn of its own accord (later than `now`), None for never."""
    due = [one.deadline for one in service.incarnations() if one.deadline is not None]
    if service.wanted == RUNNING:
        needed = {service.target.generation, service.settled.generation}
        due += [g.backoff.retry_at for n in needed if (g := service.generations[n]).zygote is None]
        due += [service.slot(index).backoff.retry_at for index in _empty_slots(service)]
    return min((at for at in due if at > now), default=None)


def _climb(service: Service, now: float) -> Iterator[Command]:
    for one in list(service.incarnations()):
        if one.deadline is None or one.deadline > now:
            continue
        spec = service.generations[one.generation].spec
        in_vain = one.phase == STARTING and not one.asked
        if one.phase == STARTING:
            one.error = one.error or f"not ready within {spec.start_timeout:g} s"
        if one.pid is None or one.aborted or one.quit:
            yield from _kill(one)
            if in_vain:
                yield from _kill_silent_zygote(service, one)
        else:
            one.phase, one.aborted, one.deadline = STOPPING, True, now + spec.kill_timeout
            yield Signal(one.id, ABRT)


def _hurry(service: Service, now: float) -> None:
    """From the death of its last worker on, the time of a retired zygote runs."""
    for generation in service.generations.values():
        zygote = generation.zygote
        if zygote is None or zygote.phase != STOPPING or zygote.deadline is not None:
            continue
        if generation.number not in service.populated:
            zygote.deadline = now + generation.spec.kill_timeout


def _kill(one: Incarnation) -> Iterator[Command]:
    if one.phase != KILLED:
        one.phase, one.deadline = KILLED, None
        yield Signal(one.id, KILL)


def _kill_silent_zygote(service: Service, worker: Incarnation) -> Iterator[Command]:
    """Kill the zygote that had all the time there is to fork this worker and never did: it is stuck."""
    zygote = service.generations[worker.generation].zygote
    if worker.pid is None and zygote is not None and zygote.id == worker.zygote:
        zygote.error = zygote.error or "did not fork when told to"
        yield from _kill(zygote)


def _start_zygotes(state: State, service: Service, now: float) -> Iterator[Command]:
    if service.closing:
        return  # a worker that drains, or its zygote, may hold the addresses yet
    for number in dict.fromkeys((service.settled.generation, service.target.generation)):
        generation = service.generations[number]
        if generation.zygote is None and generation.backoff.retry_at <= now:
            generation.retired = False
            spec = generation.spec
            zygote = Incarnation(state.take_id(), number, now, now + spec.start_timeout)
            generation.zygote = zygote
            state.living[zygote.id] = service, zygote
            yield StartZygote(zygote.id, number, spec)


def _reset_in_place(service: Service) -> Iterator[Command]:
    """Send HUP to whom it is due; to a worker that was still starting as soon as it is ready."""
    for worker in service.ready():
        if worker.id in service.hup:
            service.hup.discard(worker.id)
            yield Signal(worker.id, HUP)
    service.hup &= service.workers.keys()


def _empty_slots(service: Service) -> list[int]:
    """Return the slots that nobody holds as aimed for, those that nobody serves at all first.

    A worker that failed holds its slot until it is dead: only then its failure counts.
    """
    aim = service.aim
    staying = [worker for worker in service.workers.values() if not (worker.asked or worker.draining)]
    held = {w.slot for w in staying if service.matches(w, aim) or service.matches(w, service.target)}
    empty = [index for index in range(service.generations[aim.generation].spec.workers) if index not in held]
    if len(empty) < 2:
        return empty
    served = {worker.slot for worker in service.ready()}
    return sorted(empty, key=lambda index: index in served)


def _room(service: Service) -> int:
    """Return how many workers may be added; one that drains of its own accord does not count."""
    counted = sum(worker.asked or not worker.draining for worker in service.workers.values())
    before = service.generations[service.settled.generation].spec.workers
    return max(service.spec.workers, before) + service.spec.surge - counted


def _fill_slots(state: State, service: Service, now: float) -> Iterator[Command]:
    empty = _empty_slots(service)
    generation = service.generations[service.aim.generation]
    if not empty or not generation.imported:
        return
    room = min(_room(service), STARTS_AT_ONCE - sum(worker.pid is None for worker in service.workers.values()))
    for index in empty:
        slot = service.slot(index)
        if room <= 0 or slot.backoff.retry_at > now:
            continue
        room -= 1
        yield _spawn(state, service, generation, index, now)


def _spawn(state: State, service: Service, generation: Generation, index: int, now: float) -> Spawn:
    assert generation.zygote is not None
    worker = Incarnation(state.take_id(), generation.number, now, now + generation.spec.start_timeout)
    worker.slot, worker.zygote = index, generation.zygote.id
    service.workers[worker.id] = worker
    state.living[worker.id] = service, worker
    return Spawn(worker.id, worker.zygote, index)


def _stop_replaced(service: Service, now: float) -> Iterator[Command]:
    for worker in list(service.workers.values()):
        if worker.asked and worker.phase == STARTING:
            yield from _stop(service, worker, now)
    keepers = _keepers(service)
    candidates = service.stale() + _doubles(service, keepers)
    if not candidates:
        return
    imported = service.generations[service.target.generation].imported
    enough = imported and len(service.ready_slots()) >= service.spec.workers
    spare = len(service.ready()) - service.spec.workers
    at_once = imported and service.spec.reload == "restart"
    for worker in candidates:
        if not worker.serving:
            continue
        if worker.phase == STARTING:
            go = not service.matches(worker, service.aim) or service.aim == service.target
        elif keepers.get(worker.slot) is not worker or at_once:
            go = True
        else:
            surplus = worker.slot not in range(service.spec.workers)
            kept = service.rolling and service.matches(worker, service.settled)  # for a rollback
            go = surplus and (enough or (spare > 0 and not kept))
        if go:
            spare -= worker.phase == READY
            yield from _stop(service, worker, now)


def _keepers(service: Service) -> dict[int | None, Incarnation]:
    """Return who serves each slot best: as wanted before stale, then the newest."""
    keepers: dict[int | None, Incarnation] = {}
    for worker in sorted(service.ready(), key=lambda w: (service.matches(w, service.target), w.id)):
        keepers[worker.slot] = worker
    return keepers


def _doubles(service: Service, keepers: dict[int | None, Incarnation]) -> list[Incarnation]:
    """Return the ready workers as wanted whose slot another one serves too."""
    return [w for w in service.ready() if service.matches(w, service.target) and keepers[w.slot] is not w]


def _stop(service: Service, worker: Incarnation, now: float) -> Iterator[Command]:
    """Tell a worker to stop, once; one that has no pid yet is told when it has."""
    spec = service.generations[worker.generation].spec
    if worker.pid is None:
        if not worker.asked and worker.deadline is not None:
            worker.deadline = min(worker.deadline, now + spec.kill_timeout)
    elif service.quick and service.wanted != RUNNING:
        if not worker.quit and worker.phase != KILLED:
            worker.phase, worker.quit, worker.deadline = STOPPING, True, now + spec.kill_timeout
            yield Signal(worker.id, QUIT)
    elif worker.serving:
        worker.phase, worker.deadline = STOPPING, now + spec.stop_timeout
        yield Signal(worker.id, TERM)
    worker.asked = True


def _conclude(state: State, service: Service, now: float) -> None:
    if service.wanted == RUNNING and service.converged:
        if service.rolling:
            service.settled = service.target
            state.tell("rolled", service, generation=service.target.generation)
        service.error = None
        if service.alone:
            resolve(state, service.name, {RELOAD, RESTART}, None, now)
    elif service.wanted != RUNNING and service.at_rest:
        resolve(state, service.name, {RELOAD, STOP}, None, now)


def _retire(service: Service) -> Iterator[Command]:
    kept = {service.target.generation, service.settled.generation}
    populated = service.populated
    for generation in list(service.generations.values()):
        needed = service.wanted == RUNNING and generation.number in kept | populated
        if not (needed or generation.retired):
            generation.retired = True
            yield Retire(service.name, generation.number)
            yield from _dismiss(generation)
        if generation.zygote is None and generation.number not in kept | populated:
            del service.generations[generation.number]


def _dismiss(generation: Generation) -> Iterator[Command]:
    """Let a retired zygote exit by itself, after its last worker; one that still imports has nothing to finish."""
    zygote = generation.zygote
    if zygote is None or zygote.phase == KILLED:
        return
    importing = zygote.phase == STARTING
    zygote.asked = zygote.aborted = True
    zygote.phase, zygote.deadline = STOPPING, None
    if importing:
        yield from _kill(zygote)
