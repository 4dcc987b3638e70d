"""What no command may do, whatever the history: each is judged when it is given, against the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from forkd.core import commands, rules
from tests.simulation import signals
from tests.simulation.violation import EPSILON, Violation

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec
    from tests.simulation.ledger import Ledger

ZYGOTES = 3  # the current one, the next one, and an old one whose workers drain


def judge(ledger: Ledger, command: commands.Command, now: float) -> None:
    """Raise Violation if the command must not be given now."""
    match command:
        case commands.ReadConfig():
            _read(ledger)
        case commands.StartZygote():
            _start_zygote(ledger, command, now)
        case commands.Spawn():
            _spawn(ledger, command, now)
        case commands.Signal(id, number):
            if id not in ledger.lives:
                raise Violation(f"signal {number} to #{id}, which never was")
            if not ledger.owed[id, number] or ledger.lives[id].exited is not None:  # else it is an operator's
                signals.judge(ledger, ledger.lives[id], number, now)
        case commands.Look(id):
            life = ledger.lives[id]
            if not (life.serving and life.spec.hang_timeout) and not life.shows_what_it_dumped(now):
                raise Violation(f"a look at {life}")
        case commands.Retire():
            _retire(ledger, command)
        case _:
            assert_never(command)


def _read(ledger: Ledger) -> None:
    if ledger.wants.stopping:
        raise Violation("the configuration is read while the launcher stops")
    if ledger.wants.reading is not None:
        raise Violation("the configuration is read twice at a time")
    if not ledger.wants.asked_to_read:
        raise Violation("the configuration is read though nobody asked")


def _may_start(ledger: Ledger, service: str, id: int) -> None:
    if id in ledger.lives:
        raise Violation(f"id {id} is used twice")
    if ledger.wants.stopping:
        raise Violation(f"something of {service} starts while the launcher stops")
    if service in ledger.wants.stopped:
        raise Violation(f"something of {service} starts though it was stopped")
    if service not in ledger.wants.configured:
        raise Violation(f"something of {service} starts though it was removed")
    if service in ledger.wants.given_up:
        raise Violation(f"something of {service} starts though it was given up")


def _may_begin(ledger: Ledger, spec: ServiceSpec) -> None:
    for name in spec.after:
        if not any(
            may_follow(ledger, name, number) for number in (ledger.wants.settled.get(name), ledger.wants.current(name))
        ):
            raise Violation(f"{spec.name} begins though {name} is not ready")


def may_follow(ledger: Ledger, service: str, generation: int | None) -> bool:
    """Tell whether what comes after a service may begin: it runs a generation, and all its workers serve."""
    if generation is None or ledger.wants.stops(service) or service not in ledger.begun:
        return False
    imported = any(
        life.generation == generation
        and life.ready is not None
        and not life.leaving
        and (service, generation) not in ledger.retired
        for life in ledger.lives.zygotes(service)
    )
    serving = {life.slot for life in ledger.lives.workers(service) if life.serving}
    wanted = ledger.wants.sizes[service, generation]
    undone = any(key[0] == service and key[1] < wanted for key in ledger.ends.undone)
    return imported and not undone and serving.issuperset(ledger.slots(service, generation))


def _not_dropped(ledger: Ledger, service: str, generation: int) -> None:
    if (service, generation) in ledger.wants.dropped:
        raise Violation(f"{service}: generation {generation} is used though it was rolled back")


def _start_zygote(ledger: Ledger, command: commands.StartZygote, now: float) -> None:
    service, generation = command.spec.name, command.generation
    _may_start(ledger, service, command.id)
    if service not in ledger.begun:
        _may_begin(ledger, command.spec)
    living = ledger.lives.zygotes(service)
    if any(life.generation == generation for life in living):
        raise Violation(f"{service}: generation {generation} gets a second zygote")
    if service in ledger.closed and (living or ledger.lives.workers(service)):
        raise Violation(f"{service}: a zygote starts before all that was stopped is gone")
    kept = [life for life in living if (service, life.generation) not in ledger.retired]
    if len(kept) >= ZYGOTES:
        raise Violation(f"{service}: a zygote beside {len(kept)} others")
    _not_dropped(ledger, service, generation)
    if ledger.generations.get((service, generation), command.spec) != command.spec:
        raise Violation(f"{service}: generation {generation} starts with another spec than before")
    wait = ledger.ends.waits.zygote(service, generation)
    if now < wait.until - EPSILON:
        raise Violation(f"{service}: a zygote starts {wait.until - now:.3f} s before its backoff is over")


def _spawn(ledger: Ledger, command: commands.Spawn, now: float) -> None:
    zygote = ledger.lives.get(command.zygote)
    if zygote is None or zygote.slot is not None:
        raise Violation(f"a spawn from #{command.zygote}, which is no zygote")
    service, spec = zygote.service, zygote.spec
    _may_start(ledger, service, command.id)
    _not_dropped(ledger, service, zygote.generation)
    if zygote.ready is None or zygote.leaving or zygote.exited is not None:
        raise Violation(f"a spawn from {zygote}, which cannot fork")
    if (service, zygote.generation) in ledger.retired:
        raise Violation(f"a spawn from {zygote}, which is retired")
    if command.slot not in ledger.slots(service, zygote.generation):
        raise Violation(f"{service}: a spawn in slot {command.slot} of {ledger.slots(service, zygote.generation)}")
    wait = ledger.ends.waits.slot(service, command.slot)
    if now < wait.until - EPSILON:
        raise Violation(f"{service}: slot {command.slot} is filled {wait.until - now:.3f} s before its backoff is over")
    unborn = ledger.lives.unborn(service)
    if unborn >= rules.STARTS_AT_ONCE:
        raise Violation(f"{service}: a spawn while {unborn} others have not announced themselves")
    counted = ledger.lives.counted(service)
    before = ledger.generations.get((service, ledger.wants.settled.get(service, 0)))
    specs = [ledger.wants.configured[service], spec, *(life.spec for life in counted), *([before] if before else [])]
    numbers = {zygote.generation, ledger.wants.current(service), ledger.wants.settled.get(service, zygote.generation)}
    sizes = [ledger.wants.sizes[service, number] for number in numbers]
    most = max(sizes) + max(spec.surge for spec in specs)
    if len(counted) >= most:
        raise Violation(f"{service}: a worker beside {len(counted)} others, {most} at most")


def _retire(ledger: Ledger, command: commands.Retire) -> None:
    key = command.service, command.generation
    if key not in ledger.generations:
        raise Violation(f"{key} is retired and never was")
    if key in ledger.retired:
        raise Violation(f"{key} is retired twice")
    if ledger.lives.of(command.service) and ledger.wants.stops(command.service) and ledger.held(command.service):
        raise Violation(f"{key} is retired before what comes after it has stopped")
    if ledger.lives.populated(*key) and not ledger.wants.stops(command.service):
        raise Violation(f"{key} is retired while workers of it live")
