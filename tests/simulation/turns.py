"""What must hold whenever the launcher goes to sleep, whatever the history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from forkd.core import rules
from forkd.core.commands import ABRT, HUP, KILL, QUIT, STACKS, TERM
from forkd.core.events import Reload, Restart, Scale, SignalWorkers, Stop
from forkd.core.vigil import CONFIRM
from tests.simulation.due import force_due, zygote_due
from tests.simulation.orders import may_follow
from tests.simulation.violation import EPSILON, Violation

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.life import Life
    from tests.simulation.waits import Wait
    from tests.simulation.wants import Asked, Request

SERVICE_STATES = {"starting", "running", "degraded", "reloading", "backoff", "failed", "stopping", "stopped"}
LAUNCHER_STATES = {"starting", "running", "reloading", "stopping"}
PHASES = {"starting", "ready", "stopping", "killed"}


def check_sleep(ledger: Ledger, deadline: float | None, now: float) -> None:
    """Raise Violation unless the sleep ends in time for all that falls due."""
    if deadline is not None and deadline <= now:
        raise Violation(f"the deadline passed {now - deadline:.6f} s ago")
    for life in ledger.lives.now():
        if life.slot is None:
            _in_time(life, zygote_due(ledger, life), life.slack, deadline)
        else:
            _in_time(life, force_due(life), life.slack, deadline)
            _watched(ledger, life, deadline)
            if not {ABRT, KILL} & life.signals.keys():
                _in_time(f"the stacks of {life}", life.stacks_by, 0.0, deadline)
    if left := [key for key, times in ledger.owed.items() if times and ledger.lives[key[0]].exited is None]:
        raise Violation(f"not sent: {left}")


def _watched(ledger: Ledger, life: Life, deadline: float | None) -> None:
    """A worker that serves is looked at when a heartbeat may be missing, and replaced when it gets too old."""
    spec = life.spec
    if not life.serving or ledger.wants.stops(life.service):
        return
    if spec.hang_timeout:
        silent = max(life.beat, ledger.awake) + spec.hang_timeout if life.silent is None else life.silent + CONFIRM
        _in_time(f"the heartbeat of {life}", silent, life.slack, deadline)
    if spec.recycle.age and not life.due:
        _in_time(f"the age of {life}", life.born + spec.recycle.age, life.slack, deadline)


def _in_time(what: object, due: float | None, slack: float, deadline: float | None) -> None:
    if due is not None and (deadline is None or deadline > due + slack + EPSILON):
        raise Violation(f"the time of {what} is up at {due + slack:.3f}, but the deadline is {deadline}")


def _refilled(ledger: Ledger, shown: dict[str, Any], deadline: float | None, now: float) -> None:
    """Each empty slot, and a missing zygote, waits for its backoff and for nothing else."""
    name, generation = shown["name"], shown["generation"]
    if name not in ledger.begun:
        after = ledger.wants.current_spec(name).after
        if all(
            may_follow(ledger, other, ledger.wants.settled.get(other)) for other in after
        ) and not ledger.lives.workers(name):
            raise Violation(f"{name} does not begin, and all of {after} serve")
        return
    zygotes = [z for z in ledger.lives.zygotes(name) if z.generation == generation]
    if not zygotes:
        if name in ledger.closed and ledger.lives.of(name):
            return  # what was stopped goes first
        _waits(("a zygote", name), ledger.ends.waits.zygote(name, generation), deadline, now)
        return
    spec, lives = ledger.generations[name, generation], ledger.lives.workers(name)
    slots = ledger.slots(name, generation), ledger.slots(name, ledger.wants.current(name))
    for slot in slots[0] | slots[1]:
        if sum(life.slot == slot and not life.leaving and life.started is not None for life in lives) > 2:
            raise Violation(f"{name}: more than two workers in slot {slot}")
    if zygotes[0].ready is None or zygotes[0].leaving or (name, generation) in ledger.retired:
        return
    other = ledger.wants.configured[name]  # of these two one is aimed at
    sizes = ledger.wants.sizes[name, generation], ledger.wants.sizes[name, ledger.wants.current(name)]
    room = min(sizes) + min(spec.surge, other.surge)
    held = {life.slot for life in lives if life.holds_slot}
    full = len(ledger.lives.counted(name)) >= room or ledger.lives.unborn(name) >= rules.STARTS_AT_ONCE
    for slot in slots[0] & slots[1]:
        if slot not in held and not full:
            _waits(("slot", slot, name), ledger.ends.waits.slot(name, slot), deadline, now)


def _waits(what: object, wait: Wait, deadline: float | None, now: float) -> None:
    if wait.known and wait.until <= now:
        raise Violation(f"it was time for {what} at {wait.until:.3f}")
    if wait.known:
        _in_time(what, wait.until, 0.0, deadline)


def _something_dies(ledger: Ledger, service: str) -> bool:
    """Tell whether something of the service was killed or let go and is not dead yet: that is waited for."""
    lives = [*ledger.lives.workers(service), *ledger.lives.zygotes(service)]
    return any(life.leaving or (life.service, life.generation) in ledger.retired for life in lives)


def check_snapshot(ledger: Ledger, picture: dict[str, Any], now: float, deadline: float | None) -> None:
    """Raise Violation unless the picture of now agrees with the ledger."""
    if picture["forkd"]["state"] not in LAUNCHER_STATES:
        raise Violation(f"the launcher is {picture['forkd']['state']}")
    if ledger.wants.stopping and picture["forkd"]["state"] != "stopping":
        raise Violation(f"the launcher is {picture['forkd']['state']} though it stops")
    names = [service["name"] for service in picture["services"]]
    if len(names) != len(set(names)) or not (ledger.wants.stopping or set(names) >= set(ledger.wants.configured)):
        raise Violation(f"the snapshot shows {names}")
    check_settled(ledger, picture)
    for service in picture["services"]:
        _service(ledger, service, now)
        _alive(ledger, service, deadline)
        _closed(ledger, service["name"])
        if service["wanted"] and not ledger.wants.stops(service["name"]):
            _refilled(ledger, service, deadline, now)


def check_settled(ledger: Ledger, picture: dict[str, Any]) -> None:
    """Raise Violation if a service runs another generation and cannot."""
    for service in picture["services"]:
        _settled(ledger, service["name"], service["generation"])


def _settled(ledger: Ledger, service: str, generation: int) -> None:
    """A service comes to run another generation only by a roll, or from not running at all."""
    if generation == ledger.wants.settled.get(service):
        return
    if (
        service in ledger.wants.settled
        and service not in ledger.wants.fresh
        and (service, generation) not in ledger.wants.rolled
    ):
        raise Violation(f"{service} runs generation {generation}, to which it was never rolled")
    ledger.wants.settled[service] = generation


def check_done(ledger: Ledger, asked: Asked) -> None:
    """Raise Violation unless what an operator was told to be done is done; nothing else was asked since."""
    request, wants = asked.request, ledger.wants
    if isinstance(request, Restart) and request.service not in {None, *wants.configured}:
        raise Violation(f"{request} is done, and there is no such service")
    if isinstance(request, SignalWorkers):
        return
    for service in wants.named(request):
        if isinstance(request, Stop):
            if lives := ledger.lives.of(service):
                raise Violation(f"{request} is done, and of {service} lives {lives[0]}")
        elif service not in wants.stopped:
            _rolled(ledger, service, asked)


def _rolled(ledger: Ledger, service: str, asked: Asked) -> None:
    """Of a service that was reloaded, restarted or scaled all is as wanted, and nothing else lives."""
    request, lives, current = asked.request, ledger.lives.workers(service), ledger.wants.current(service)
    if isinstance(request, Scale):
        serving = {life.slot for life in lives if life.serving}
        if serving != ledger.slots(service, current):
            raise Violation(f"{request} is done, and {serving} serve")
    elif old := [life for life in lives if life.serving and max(life.born, _reset(life, request)) < asked.at]:
        raise Violation(f"{request} is done, and {old[0]} is from before")
    if {service} != ledger.wants.named(request):
        return  # it may roll again, since others were waited for
    if old := [life for life in ledger.lives.zygotes(service) if life.generation != current]:
        raise Violation(f"{request} is done, and {old[0]} lives")


def _reset(life: Life, request: Request) -> float:
    """Return when a worker was reset in place, as a reload may have it."""
    return life.signals.get(HUP, 0.0) if isinstance(request, Reload) else 0.0


def check_json(picture: dict[str, Any]) -> None:
    """Raise unless the picture is plain data."""
    json.dumps(picture, allow_nan=False)


def _service(ledger: Ledger, shown: dict[str, Any], now: float) -> None:
    name = shown["name"]
    lives = {life.id: life for life in ledger.lives.workers(name)}
    if shown["state"] not in SERVICE_STATES:
        raise Violation(f"{name} is {shown['state']}")
    serving = sum(life.serving for life in lives.values())
    if shown["ready"] != serving:
        raise Violation(f"{name}: {shown['ready']} shown as ready, {serving} serve")
    if sorted(lives) != sorted(worker["id"] for worker in shown["workers"]):
        raise Violation(f"{name}: shown are {[worker['id'] for worker in shown['workers']]}, alive are {sorted(lives)}")
    stopped = ledger.wants.stops(name) and (ledger.wants.stopping or name not in ledger.wants.given_up)
    if (shown["state"] == "failed") != (name in ledger.wants.given_up and not stopped):
        raise Violation(f"{name} is {shown['state']}, given up are {ledger.wants.given_up}")
    if stopped and (shown["wanted"] or shown["state"] not in {"stopping", "stopped"}):
        raise Violation(f"{name} is {shown['state']}, wanted {shown['wanted']}, though it was stopped")
    if not stopped and shown["state"] in {"stopping", "stopped"} and (shown["wanted"] or lives):
        raise Violation(f"{name} is {shown['state']} though nobody stopped it")
    if shown["state"] == "running" and serving < shown["wanted"]:
        raise Violation(f"{name} is running with {serving} of {shown['wanted']} workers ready")
    if stopped and shown["state"] == "stopped" and ledger.lives.of(name):
        raise Violation(f"{name} is stopped and lives")
    for life in lives.values():
        _told(ledger, life)
    for worker in shown["workers"]:
        _worker(lives[worker["id"]], worker, now)


def _told(ledger: Ledger, life: Life) -> None:
    """A worker that is to stop, or hangs, has been told so."""
    if life.started is None:
        return
    if not ledger.wants.stops(life.service):
        if life.hung and (life.serving or {STACKS, TERM} & life.signals.keys() == {STACKS}):
            raise Violation(f"{life} hangs, and was not told to show its stacks and stop")
    elif life.service in ledger.wants.hurried:
        if not {QUIT, KILL} & life.signals.keys():
            raise Violation(f"{life} was to stop at once, and was not told so")
    elif not life.leaving and not ledger.held(life.service):
        raise Violation(f"{life} was to stop, and was not told so")


def _worker(life: Life, shown: dict[str, Any], now: float) -> None:
    facts = shown["slot"], shown["generation"], shown["pid"] is not None, shown["phase"] == "ready"
    if facts != (life.slot, life.generation, life.started is not None, life.serving):
        raise Violation(f"{life} is shown as {shown}")
    if shown["phase"] not in PHASES or abs(shown["uptime"] - (now - life.born)) > EPSILON:
        raise Violation(f"{life} is shown in phase {shown['phase']}, up {shown['uptime']} s")


def _closed(ledger: Ledger, service: str) -> None:
    """A service that stops has given up its listeners, whoever still drains."""
    open_ = [z for z in ledger.lives.zygotes(service) if (service, z.generation) not in ledger.retired]
    if ledger.wants.stops(service) and open_ and not ledger.held(service):
        raise Violation(f"{service} stops and is not closed: {open_[0]}")


def _alive(ledger: Ledger, shown: dict[str, Any], deadline: float | None) -> None:
    """A service below what is wanted has a deadline, or waits for the death of something that is dying."""
    if deadline is not None or _something_dies(ledger, shown["name"]):
        return
    served = {life.slot for life in ledger.lives.workers(shown["name"]) if life.serving}
    name = shown["name"]
    slots = ledger.slots(name, ledger.wants.current(name)) if shown["wanted"] else set()
    missing = {slot for slot in slots if slot not in served}
    if shown["name"] not in ledger.begun and not ledger.wants.stops(shown["name"]):
        return  # it waits for another one
    if shown["state"] == "failed" or (shown["state"] == "stopping" and ledger.held(shown["name"])):
        return  # it waits for nothing, or for another one
    if missing or shown["state"] in {"starting", "reloading", "stopping", "backoff"}:
        raise Violation(f"{shown['name']} is {shown['state']} without slots {sorted(missing)}, and nothing will happen")
