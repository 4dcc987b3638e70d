"""A picture of the supervisor's records for people, in the shape of `forkd status --json`.

What only the kernel knows (memory, counters) is added by who asks; instants are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forkd.core.commands import SIGNALS
from forkd.core.state import REMOVED, RUNNING

if TYPE_CHECKING:
    from forkd.core.state import Incarnation, Service, State


def take(state: State, now: float) -> dict[str, Any]:
    """Return the launcher's and each service's state as plain data."""
    last = state.last_reload
    return {
        "forkd": {
            "state": _launcher_state(state),
            "uptime": now - state.started_at,
            "generation": state.generation,
            "last_reload": last and {"at": last.at, "ok": last.ok, "error": last.error},
        },
        "services": [_service(service, now) for service in state.services.values()],
    }


def _launcher_state(state: State) -> str:
    if state.stopping:
        return "stopping"
    if state.pending or state.reading is not None or any(t.kind == "reload" for t in state.tickets):
        return "reloading"
    states = {service_state(service) for service in state.services.values()}
    return "starting" if "starting" in states else "running"


def service_state(service: Service) -> str:
    """Return one of the service states of the contract."""
    if service.wanted != RUNNING:
        return "stopped" if service.at_rest and service.wanted != REMOVED else "stopping"
    if service.rolling:
        return "reloading"
    if len(service.ready_slots()) >= service.spec.workers and service.error is None:
        return "running" if service.generations[service.target.generation].imported else _trouble(service)
    return _trouble(service)


def _trouble(service: Service) -> str:
    """Tell a first start from a service that lost workers, and one that waits to try again from one that serves."""
    waits = [s.backoff.wait for s in service.slots.values()] + [g.backoff.wait for g in service.generations.values()]
    restarts = sum(slot.restarts for slot in service.slots.values())
    if service.ready():
        full = len(service.ready()) >= service.spec.workers
        return "running" if full and service.error is None else "degraded" if restarts or service.error else "starting"
    return "backoff" if any(waits) else "starting"


def _error(service: Service, state: str) -> str | None:
    """Return why a service is not as wanted: what failed to start, else how the last one ended that is missing now."""
    if service.error is not None or state not in {"degraded", "backoff"}:
        return service.error
    missing = set(range(service.spec.workers)) - service.ready_slots()
    ends = [(slot.exits[-1], index) for index, slot in service.slots.items() if index in missing and slot.exits]
    if not ends:
        return None
    end, index = max(ends, key=lambda pair: pair[0].at)
    return f"worker {index} ended: {end.reason}"


def _service(service: Service, now: float) -> dict[str, Any]:
    zygote = service.generations[service.target.generation].zygote
    state = service_state(service)
    return {
        "name": service.name,
        "state": state,
        "generation": service.settled.generation,
        "wanted": service.spec.workers if service.wanted == RUNNING else 0,
        "ready": len(service.ready()),
        "restarts": sum(slot.restarts for slot in service.slots.values()),
        "listen": list(service.spec.bind),
        "zygote_pid": zygote.pid if zygote is not None else None,
        "error": _error(service, state),
        "workers": [_worker(service, w, now) for w in sorted(service.workers.values(), key=lambda w: (w.slot, w.id))],
    }


def _worker(service: Service, worker: Incarnation, now: float) -> dict[str, Any]:
    assert worker.slot is not None
    slot = service.slot(worker.slot)
    last = slot.exits[-1] if slot.exits else None
    return {
        "id": worker.id,
        "slot": worker.slot,
        "pid": worker.pid,
        "phase": worker.phase,
        "generation": worker.generation,
        "uptime": now - worker.born,
        "restarts": slot.restarts,
        "last_exit": last
        and {
            "at": last.at,
            "code": last.code,
            "signal": last.signal and SIGNALS.get(last.signal, f"signal {last.signal}"),
            "reason": last.reason,
        },
    }
