"""What no command may do, whatever the history: each is judged when it is given, against the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from forkd.core import commands, rules
from forkd.core.commands import ABRT, HUP, KILL, QUIT, STACKS, TERM

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec
    from tests.simulation.ledger import Ledger, Life

EPSILON = 1e-6  # of rounding, in seconds
ZYGOTES = 3  # the current one, the next one, and an old one whose workers drain
ONCE = {TERM, ABRT, KILL, QUIT}


class Violation(AssertionError):
    """An invariant does not hold; the text says which, and for what."""


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
            if ledger.owed[id, number] and ledger.lives[id].exited is None:
                return  # an operator's
            _signal(ledger, ledger.lives[id], number, now)
        case commands.Look(id):
            if not ledger.lives[id].serving or not ledger.lives[id].spec.hang_timeout:
                raise Violation(f"a look at {ledger.lives[id]}")
        case commands.Retire():
            _retire(ledger, command)
        case _:
            assert_never(command)


def _read(ledger: Ledger) -> None:
    if ledger.stopping:
        raise Violation("the configuration is read while the launcher stops")
    if ledger.reading is not None:
        raise Violation("the configuration is read twice at a time")
    if not ledger.asked_to_read:
        raise Violation("the configuration is read though nobody asked")


def _may_start(ledger: Ledger, service: str, id: int) -> None:
    if id in ledger.lives:
        raise Violation(f"id {id} is used twice")
    if ledger.stopping:
        raise Violation(f"something of {service} starts while the launcher stops")
    if service in ledger.stopped:
        raise Violation(f"something of {service} starts though it was stopped")
    if service not in ledger.configured:
        raise Violation(f"something of {service} starts though it was removed")
    if service in ledger.given_up:
        raise Violation(f"something of {service} starts though it was given up")


def _may_begin(ledger: Ledger, spec: ServiceSpec) -> None:
    for name in spec.after:
        if not any(may_follow(ledger, name, number) for number in (ledger.settled.get(name), ledger.current(name))):
            raise Violation(f"{spec.name} begins though {name} is not ready")


def may_follow(ledger: Ledger, service: str, generation: int | None) -> bool:
    """Tell whether what comes after a service may begin: it runs a generation, and all its workers serve."""
    if generation is None or ledger.stops(service) or service not in ledger.begun:
        return False
    imported = any(
        life.generation == generation
        and life.ready is not None
        and not life.leaving
        and (service, generation) not in ledger.retired
        for life in ledger.zygotes.get(service, {}).values()
    )
    serving = {life.slot for life in ledger.living(service) if life.serving}
    undone = any(key[0] == service and key[1] < ledger.sizes[service, generation] for key in ledger.undone)
    return imported and not undone and serving.issuperset(ledger.slots(service, generation))


def _not_dropped(ledger: Ledger, service: str, generation: int) -> None:
    if (service, generation) in ledger.dropped:
        raise Violation(f"{service}: generation {generation} is used though it was rolled back")


def _start_zygote(ledger: Ledger, command: commands.StartZygote, now: float) -> None:
    service, generation = command.spec.name, command.generation
    _may_start(ledger, service, command.id)
    if service not in ledger.begun:
        _may_begin(ledger, command.spec)
    living = ledger.zygotes.get(service, {}).values()
    if any(life.generation == generation for life in living):
        raise Violation(f"{service}: generation {generation} gets a second zygote")
    if service in ledger.closed and (living or ledger.living(service)):
        raise Violation(f"{service}: a zygote starts before all that was stopped is gone")
    kept = [life for life in living if (service, life.generation) not in ledger.retired]
    if len(kept) >= ZYGOTES:
        raise Violation(f"{service}: a zygote beside {len(kept)} others")
    _not_dropped(ledger, service, generation)
    if ledger.generations.get((service, generation), command.spec) != command.spec:
        raise Violation(f"{service}: generation {generation} starts with another spec than before")
    wait = ledger.waits.zygote(service, generation)
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
    wait = ledger.waits.slot(service, command.slot)
    if now < wait.until - EPSILON:
        raise Violation(f"{service}: slot {command.slot} is filled {wait.until - now:.3f} s before its backoff is over")
    unborn = ledger.unborn(service)
    if unborn >= rules.STARTS_AT_ONCE:
        raise Violation(f"{service}: a spawn while {unborn} others have not announced themselves")
    counted = ledger.counted(service)
    before = ledger.generations.get((service, ledger.settled.get(service, 0)))
    specs = [ledger.configured[service], spec, *(life.spec for life in counted), *([before] if before else [])]
    numbers = {zygote.generation, ledger.current(service), ledger.settled.get(service, zygote.generation)}
    sizes = [ledger.sizes[service, number] for number in numbers]
    most = max(sizes) + max(spec.surge for spec in specs)
    if len(counted) >= most:
        raise Violation(f"{service}: a worker beside {len(counted)} others, {most} at most")


def _signal(ledger: Ledger, life: Life, number: int, now: float) -> None:
    if life.exited is not None:
        raise Violation(f"signal {number} to {life}, which is dead")
    if number in ONCE and number in life.signals:
        raise Violation(f"a second signal {number} to {life}")
    if number != KILL and life.started is None:
        raise Violation(f"signal {number} to {life}, which has no pid yet")
    if KILL in life.signals:
        raise Violation(f"signal {number} to {life}, which was killed")
    if number == HUP:
        if not life.serving or "signal" not in {life.spec.reload, ledger.configured[life.service].reload}:
            raise Violation(f"HUP to {life}")
        if life.signals.get(HUP, -1.0) >= ledger.read_at:
            raise Violation(f"a second HUP to {life} for one reload")
    elif life.slot is None:
        _end_zygote(ledger, life, number, now)
    elif number in {ABRT, KILL}:
        _force(life, number, now)
    elif number == STACKS:
        if not life.hung:
            raise Violation(f"{life} is to dump its stacks, and nobody asked")
    elif number == QUIT:
        if not ledger.stops(life.service):
            raise Violation(f"QUIT to {life}, whose service is not stopped")
    elif ledger.stops(life.service) and ledger.held(life.service) and not life.hung:
        raise Violation(f"TERM to {life} before what comes after {life.service} has stopped")
    elif life.serving:
        _stop(ledger, life)


def _force(life: Life, number: int, now: float) -> None:
    """Refuse force against a worker that serves, or before its time is up."""
    if life.started is None and life.doubtful:
        return  # nobody wants it any more, and it is not even born
    due = force_due(life)
    if due is None:
        raise Violation(f"signal {number} to {life}, which is well")
    if now < due + life.pardon - EPSILON:
        raise Violation(f"signal {number} to {life}, {due + life.pardon - now:.3f} s before its time is up")
    if number == KILL and not (life.started is None or {ABRT, QUIT} & life.signals.keys()):
        raise Violation(f"KILL to {life} without a chance to dump its stacks")


def force_due(life: Life) -> float | None:
    """Return when a life that leaves or starts has had its time; None where nothing is due, or left to do."""
    spec, signals = life.spec, life.signals
    if KILL in signals:
        return None
    if ABRT in signals or QUIT in signals:
        return max(signals.get(ABRT, 0.0), signals.get(QUIT, 0.0)) + spec.kill_timeout
    if life.hung:
        return signals[TERM] + spec.kill_timeout if TERM in signals else life.draining
    leaving = [when for when in (signals.get(TERM), life.draining) if when is not None]
    if leaving:
        return min(leaving) + spec.stop_timeout
    return life.born + spec.start_timeout if life.ready is None else None


def zygote_due(ledger: Ledger, life: Life) -> float | None:
    """Return when a zygote that imports, or was retired and has no worker any more, has had its time."""
    key = life.service, life.generation
    if key not in ledger.retired or KILL in life.signals:
        return force_due(life)
    if ledger.populated(*key):
        return None
    since = max(ledger.retired[key], ledger.emptied.get(key, 0.0), life.signals.get(ABRT, 0.0))
    return since + life.spec.kill_timeout


def _end_zygote(ledger: Ledger, life: Life, number: int, now: float) -> None:
    if number not in {ABRT, KILL}:
        raise Violation(f"signal {number} to {life}, which heeds none")
    importing_in_vain = life.ready is None and (life.service, life.generation) in ledger.retired
    if importing_in_vain or any(_in_vain(w, now) for w in ledger.living(life.service) if w.zygote == life.id):
        return  # it does not do what it is there for
    due = zygote_due(ledger, life)
    if due is None or now < due + life.pardon - EPSILON:
        raise Violation(f"signal {number} to {life} before its time is up")


def _in_vain(worker: Life, now: float) -> bool:
    """Tell whether a zygote was told to fork this worker, has had its time, and did not."""
    return worker.started is None and now >= worker.born + worker.spec.start_timeout + worker.pardon - EPSILON


def _stop(ledger: Ledger, life: Life) -> None:
    """Refuse to stop a worker that serves and that nobody else stands in for."""
    service = life.service
    if ledger.stops(service):
        return
    others = [other for other in ledger.living(service) if other.serving and other is not life]
    if any(other.slot == life.slot for other in others):
        return
    keys = [key for key in ledger.sizes if key[0] == service and key not in ledger.retired]
    assert life.slot is not None
    serving = {other.slot for other in others}
    if any(
        life.slot >= ledger.sizes[k] and (ledger.sizes[k] <= len(others) or serving >= ledger.slots(*k)) for k in keys
    ):
        return  # its slot is gone, and enough serve without it
    zygotes = ledger.zygotes[service].values()
    if any(z.spec.reload == "restart" and z.ready is not None and not z.leaving for z in zygotes):
        return
    raise Violation(f"TERM to {life}, which serves and which nobody replaces")


def _retire(ledger: Ledger, command: commands.Retire) -> None:
    key = command.service, command.generation
    if key not in ledger.generations:
        raise Violation(f"{key} is retired and never was")
    if key in ledger.retired:
        raise Violation(f"{key} is retired twice")
    if ledger.stops(command.service) and ledger.held(command.service):
        raise Violation(f"{key} is retired before what comes after it has stopped")
    if ledger.populated(*key) and not ledger.stops(command.service):
        raise Violation(f"{key} is retired while workers of it live")
