"""A picture of the supervisor's records for people, in the shape of `forkd status --json`.

What only the kernel knows (memory, counters) is added by who asks; instants are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forkd.core import order
from forkd.core.commands import SIGNALS
from forkd.core.service import REMOVED, RUNNING

if TYPE_CHECKING:
    from forkd.core.incarnation import Exit, Incarnation
    from forkd.core.service import Service, Slot
    from forkd.core.state import State


def take(state: State, now: float, detailed: str | None, *, brief: bool = False) -> dict[str, Any]:
    """Return the launcher's and each service's state as plain data; the `detailed` one with its slots' last exits."""
    last = state.last_reload
    return {
        "forkd": {
            "state": _launcher_state(state),
            "uptime": now - state.started_at,
            "generation": state.generation,
            "last_reload": last and {"at": last.at, "ok": last.ok, "error": last.error},
        },
        "services": [_service(s, now, detailed=s.name == detailed, brief=brief) for s in state.services.values()],
    }


def _launcher_state(state: State) -> str:
    if state.stopping:
        return "stopping"
    if state.pending or state.reading is not None or any(t.kind == "reload" for t in state.tickets):
        return "reloading"
    started = all(service_state(s) != "starting" or order.hindrance(state, s) for s in state.services.values())
    return "running" if started else "starting"


def service_state(service: Service) -> str:
    """Return one of the service states of the contract."""
    if service.wanted != RUNNING:
        return "stopped" if service.at_rest and service.wanted != REMOVED else "stopping"
    if service.failed is not None:
        return "failed"
    if service.rolling and service.begun:
        return "reloading"
    if service.size and not (service.workers or _wanted(service)):
        return "stopped"  # each of its workers has ended as its restart policy lets it
    if service.begun and service.complete and service.error is None:
        return "running" if service.generations[service.target.generation].imported else _trouble(service)
    return _trouble(service)


def _trouble(service: Service) -> str:
    """Tell a first start from a service that lost workers, and one that waits to try again from one that serves."""
    waits = [s.backoff.wait for s in service.slots.values()] + [g.backoff.wait for g in service.generations.values()]
    restarts = sum(slot.restarts for slot in service.slots.values())
    if service.ready():
        full = len(service.ready()) >= _wanted(service)
        return "running" if full and service.error is None else "degraded" if restarts or service.error else "starting"
    return "backoff" if any(waits) else "starting"


def _error(service: Service, state: str) -> str | None:
    """Return why a service is not as wanted: what failed to start, else how the last one ended that is missing now."""
    if service.failed is not None:
        return service.failed
    if state == "starting" and service.waits:
        return f"waits for {', '.join(service.waits)}"
    if service.error is not None or state not in {"degraded", "backoff"}:
        return service.error
    missing = set(range(service.size)) - service.ready_slots()
    ends = [(slot.exits[-1], index) for index, slot in service.slots.items() if index in missing and slot.exits]
    if not ends:
        return None
    end, index = max(ends, key=lambda pair: pair[0].at)
    return f"worker {index} ended: {end.reason}"


def _wanted(service: Service) -> int:
    return len(service.wanted_slots(service.generations[service.target.generation]))


def _service(service: Service, now: float, *, detailed: bool, brief: bool) -> dict[str, Any]:
    zygote = service.generations[service.target.generation].zygote
    state = service_state(service)
    picture = {
        "name": service.name,
        "state": state,
        "generation": service.settled.generation,
        "wanted": _wanted(service) if service.wanted == RUNNING else 0,
        "ready": len(service.ready()),
        "restarts": sum(slot.restarts for slot in service.slots.values()),
        "listen": list(service.spec.bind),
        "zygote_pid": zygote.pid if zygote is not None else None,
        "error": _error(service, state),
        "workers": [
            _worker(service, worker, now)
            for worker in sorted(() if brief else service.workers.values(), key=lambda one: (one.slot, one.id))
        ],
    }
    if detailed:
        picture["slots"] = [_slot(index, slot) for index, slot in sorted(service.slots.items())]
    return picture


def _worker(service: Service, worker: Incarnation, now: float) -> dict[str, Any]:
    assert worker.slot is not None
    slot, health = service.slot(worker.slot), worker.checkup
    return {
        "id": worker.id,
        "slot": worker.slot,
        "pid": worker.pid,
        "phase": worker.phase,
        "generation": worker.generation,
        "uptime": now - worker.born,
        "restarts": slot.restarts,
        "health": health and {"ok": not health.failures, "failures": health.failures, "text": health.text},
        "last_exit": _exit(slot.exits[-1]) if slot.exits else None,
    }


def _slot(index: int, slot: Slot) -> dict[str, Any]:
    return {"slot": index, "restarts": slot.restarts, "exits": [_exit(end) for end in slot.exits]}


def _exit(end: Exit) -> dict[str, Any]:
    signal = end.signal and SIGNALS.get(end.signal, f"signal {end.signal}")
    return {"at": end.at, "code": end.code, "signal": signal, "reason": end.reason}
