"""What is not as it should be once nothing fails any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.watch import Watch
    from tests.simulation.world import World


def missing(watch: Watch, world: World, *, renewed: bool) -> str | None:
    """Tell what is missing, None if all is well; `renewed`: the configuration was read since the last fault."""
    ledger = watch.ledger
    wants = ledger.wants
    if wants.stopping:
        return None if watch.done else "it does not stop"
    unanswered = wants.tickets.keys() - watch.answers.keys()
    if unanswered or wants.asked_to_read or wants.reading is not None:
        return f"unanswered are {[wants.tickets[number].request for number in sorted(unanswered)]}"
    shown = {service["name"]: service for service in watch.picture["services"]}
    if shown.keys() != wants.configured.keys():
        return f"there are {sorted(shown)}, configured are {sorted(wants.configured)}"
    troubles = (_of_service(ledger, world, service, renewed=renewed) for service in shown.values())
    return next((trouble for trouble in troubles if trouble is not None), None)


def _of_service(ledger: Ledger, world: World, shown: dict[str, Any], *, renewed: bool) -> str | None:
    name, wants = shown["name"], ledger.wants
    if wants.stops(name):
        rests = "failed" if name in wants.given_up else "stopped"
        return (
            None
            if shown["state"] == rests and not ledger.lives.of(name)
            else f"{name} is {shown['state']}, not {rests}"
        )
    if _waits(ledger, name):
        return f"{name} waits and lives" if ledger.lives.of(name) else None
    if (name, shown["generation"]) not in ledger.generations:
        return f"of {name} nothing has begun: what was stopped goes first"
    if renewed and ledger.generations[name, shown["generation"]] != wants.configured[name]:
        return f"{name} runs {ledger.generations[name, shown['generation']]} instead of {wants.configured[name]}"
    return _unsettled(ledger, world, name) or _workers(ledger, world, shown)


def _waits(ledger: Ledger, name: str) -> bool:
    """Tell whether a service waits for ever, for one that was stopped or given up, or has ended badly."""
    if name in ledger.begun:
        return False
    undone = {service for service, _ in ledger.ends.undone}
    after = ledger.wants.current_spec(name).after
    return any(ledger.wants.stops(other) or other in undone or _waits(ledger, other) for other in after)


def _unsettled(ledger: Ledger, world: World, name: str) -> str | None:
    """Tell who is to be replaced, or comes or goes."""
    mine = [worker for worker in world.workers.values() if worker.alive and worker.zygote.spec.name == name]
    if any(worker.hung_at is not None and worker.zygote.spec.hang_timeout for worker in mine):
        return f"of {name} one hangs"
    lives = [*ledger.lives.workers(name), *(zygote for zygote in ledger.lives.zygotes(name) if zygote.leaving)]
    if any(life.leaving or not life.ready for life in lives):
        return f"of {name} some come or go"
    if any(life.due for life in lives):
        return f"of {name} one is due, and is not replaced"
    return None


def _workers(ledger: Ledger, world: World, shown: dict[str, Any]) -> str | None:
    """Tell which slots are not served, or shown to be, and whether nobody could fork for them."""
    name, generation = shown["name"], shown["generation"]
    serving = sorted(w.slot for w in world.workers.values() if w.zygote.spec.name == name and w.serving)
    slots = sorted(ledger.slots(name, generation))
    if serving != slots or {shown["ready"], shown["wanted"]} != {len(slots)}:
        return f"{name} has {serving}, shown as {shown['ready']} of {shown['wanted']}"
    imported = [ledger.lives[z.id].ready for z in world.zygotes.values() if z.alive and z.spec.name == name]
    well = "running" if slots or not ledger.wants.sizes[name, generation] else "stopped"
    if shown["state"] != well or len(imported) != 1 or None in imported:
        return f"{name} is {shown['state']}: {shown['error']}"
    return None
