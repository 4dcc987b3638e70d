"""The rules that bring a service from what it is to what is wanted. Each turn applies all of them.

1. An incarnation past its deadline climbs the ladder: ABRT (it dumps its stacks), `kill_timeout`, KILL. A worker that
   is looked at and found to hang is on it, and its slot is free at once. One that was asked for its stacks and does not
   show them is made to.
2. A service begins when what it comes after is ready, and stops when what comes after it has. A running one has a
   zygote of its target and, while it rolls, of what it would roll back to; one that ended is started anew after its
   backoff.
3. An empty slot is filled from the target, or while that still imports from what served before: after the slot's
   backoff, at most `surge` workers above the wanted number, slots that nobody serves first, and no more at once than a
   zygote can hear. A worker that is due (too old, too large, not healthy) holds its slot no more, and serves on.
4. A worker is stopped when a better one serves its slot, when it is not wanted and serves nothing yet, or when its slot
   is gone and enough others serve. `reload: restart` stops what is stale at once.
5. A service that is to stop has every worker told so once.
6. A roll is over when every slot has a ready worker of the target and nothing stale lives; who waits for it is told
   when the old zygote is gone too, and with it the last who may hold an address that was given up.
7. A generation that nothing needs and no worker lives of is retired. One that is to stop is so at once, which closes
   its listeners; nothing new is started then before all of it has gone.

A plan changes the records as if its commands had been performed, so planning again gives nothing new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core import ladder, order, stacks, vigil
from forkd.core.commands import HUP, STACKS, Retire, Signal, Spawn, StartZygote
from forkd.core.incarnation import READY, STARTING, Incarnation
from forkd.core.tickets import RELOAD, RESTART, SCALE, STOP, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.service import Generation, Service
    from forkd.core.state import State

# Workers that were ordered and have not announced themselves: a zygote forks one after the other, so
# more would only wait in its channel, whose room is small, while their `start_timeout` runs.
STARTS_AT_ONCE = 64


def apply(state: State, service: Service, now: float) -> Iterator[Command]:
    """Yield what is to be done for a service now.

    What changes a record without a command (a worker that has no pid yet is only marked) comes before
    what heeds it: a pass that yields nothing must leave nothing to the next one.
    """
    yield from _send_owed(service, now)
    yield from stacks.press(service, now)
    if not (service.active or service.at_rest) and order.is_held(state, service):
        ladder.hurry(service, now)
        yield from ladder.climb(service, now)
        return
    if not service.active:
        for worker in list(service.workers.values()):
            yield from ladder.stop(service, worker, now)
    elif order.begin(state, service):
        yield from _start_zygotes(state, service, now)
        yield from vigil.give_up_hung(service, now)
        yield from vigil.look(state, service, now)
        vigil.retire_old(state, service, now)
        yield from _stop_replaced(service, now)
    ladder.hurry(service, now)
    yield from ladder.climb(service, now)
    if service.active and service.begun:
        yield from _fill_slots(state, service, now)
    _conclude(state, service, now)
    yield from _retire(service)


def next_deadline(state: State, service: Service, now: float) -> float | None:
    """Return when the service next needs a turn of its own accord (later than `now`), None for never."""
    due = [one.deadline for one in service.incarnations() if one.deadline is not None]
    due += stacks.next_deadline(service)
    if service.active and service.begun:
        due += vigil.next_deadline(state, service)
        needed = {service.target.generation, service.settled.generation}
        due += [g.backoff.retry_at for n in needed if (g := service.generations[n]).zygote is None]
        due += [service.slot(index).backoff.retry_at for index in _empty_slots(service)]
    return min((at for at in due if at > now), default=None)


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


def _send_owed(service: Service, now: float) -> Iterator[Command]:
    """Send the signals of operators, and HUP to whom it is due: to a worker that still starts once it is ready."""
    owed, service.owed = service.owed, []
    for id, number in owed:
        if id in service.workers:
            if number == STACKS:
                stacks.asked(service.workers[id], now)
            yield Signal(id, number)
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
    held = {
        worker.slot
        for worker in service.workers.values()
        if not worker.asked
        and worker.due is None
        and (service.matches(worker, aim) or service.matches(worker, service.target))
        and not (worker.draining and _is_followed(service, worker))
    }
    empty = [index for index in service.wanted_slots(service.generations[aim.generation]) if index not in held]
    if len(empty) < 2:
        return empty
    served = {worker.slot for worker in service.ready()}
    return sorted(empty, key=lambda index: index in served)


def _is_followed(service: Service, worker: Incarnation) -> bool:
    """Tell whether somebody follows a worker however it ends: else it may be the last one of its slot."""
    return service.generations[worker.generation].spec.restart.policy == "always"


def _room(service: Service) -> int:
    """Return how many workers may be added; one that drains of its own accord does not count."""
    counted = sum(worker.asked or not worker.draining for worker in service.workers.values())
    before = service.generations[service.settled.generation].workers
    return max(service.size, before) + service.spec.surge - counted


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
            yield from ladder.stop(service, worker, now)
    candidates = service.stale()
    if not candidates and len(service.ready()) == len(service.ready_slots()):
        return
    keepers = _keepers(service)
    candidates += _doubles(service, keepers)
    imported = service.generations[service.target.generation].imported
    enough = imported and service.complete
    spare = len(service.ready()) - service.size
    at_once = imported and service.spec.reload == "restart"
    for worker in candidates:
        if not worker.serving:
            continue
        if worker.phase == STARTING:
            go = not service.matches(worker, service.aim) or service.aim == service.target
        elif keepers.get(worker.slot) is not worker or at_once:
            go = True
        else:
            surplus = worker.slot not in range(service.size)
            go = surplus and (enough or (spare > 0 and not _is_kept(service, worker)))
        if go:
            spare -= worker.phase == READY
            yield from ladder.stop(service, worker, now)


def _is_kept(service: Service, worker: Incarnation) -> bool:
    """Tell whether a worker would be wanted again after a rollback."""
    before = service.generations[service.settled.generation]
    return service.rolling and service.matches(worker, service.settled) and worker.slot in range(before.workers)


def _keepers(service: Service) -> dict[int | None, Incarnation]:
    """Return who serves each slot best: as wanted before stale, who is not due before who is, then the newest."""
    keepers: dict[int | None, Incarnation] = {}
    for worker in sorted(service.ready(), key=lambda w: (service.matches(w, service.target), w.due is None, w.id)):
        keepers[worker.slot] = worker
    return keepers


def _doubles(service: Service, keepers: dict[int | None, Incarnation]) -> list[Incarnation]:
    """Return the ready workers as wanted whose slot another one serves too."""
    return [w for w in service.ready() if service.matches(w, service.target) and keepers[w.slot] is not w]


def _conclude(state: State, service: Service, now: float) -> None:
    if service.active and service.begun and service.converged:
        if service.rolling:
            service.settled = service.target
            state.tell("rolled", service, generation=service.target.generation)
        if service.error is not None and all(worker.due is None for worker in service.workers.values()):
            service.error = None
        if service.alone:
            resolve(state, service.name, {RELOAD, RESTART, SCALE}, None, now)
    elif not service.active and service.at_rest:
        service.begun = False
        resolve(state, service.name, {RELOAD, STOP}, None, now)
    elif service.active and not service.begun and (why := order.hindrance(state, service)) is not None:
        resolve(state, service.name, {RELOAD, RESTART, SCALE}, why, now)


def _retire(service: Service) -> Iterator[Command]:
    kept = {service.target.generation, service.settled.generation}
    populated = service.populated
    for generation in list(service.generations.values()):
        needed = service.active and generation.number in kept | populated
        if not (needed or generation.retired):
            generation.retired = True
            yield Retire(service.name, generation.number)
            yield from ladder.dismiss(generation)
        if generation.zygote is None and generation.number not in kept | populated:
            del service.generations[generation.number]
