"""What operators ask for, written into what is wanted; `rules` does the rest.

A reload is read and applied one at a time: while one is under way (or a restart rolls) the next ones
wait together and are answered by one reading, so that any number of HUPs ends on the newest code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.events import ConfigRead, ConfigRefused, Reload, Restart, Scale, SignalWorkers, Stop
from forkd.core.incarnation import READY
from forkd.core.service import REMOVED, RUNNING, STOPPED, Generation, Service, Target
from forkd.core.spec import BUILT_IN, MOST_WORKERS
from forkd.core.tickets import RELOAD, RESTART, SCALE, SIGNAL, STOP, issue, refuse, resolve

if TYPE_CHECKING:
    from forkd.core.events import Request
    from forkd.core.incarnation import Incarnation
    from forkd.core.spec import Config, ServiceSpec
    from forkd.core.state import State

MOST = 3  # generations of a service at once: what serves, what comes, and one that drains
_KINDS = {Reload: RELOAD, Restart: RESTART, Stop: STOP, Scale: SCALE, SignalWorkers: SIGNAL}


def observe(state: State, request: Request, now: float) -> None:
    """Write down what is wanted from now on."""
    match request:
        case ConfigRead(config):
            _config_read(state, config, now)
        case ConfigRefused(problems):
            _config_refused(state, problems, now)
        case Stop(ticket, None, quick):
            stop_all(state, ticket, quick=quick, now=now)
        case _:
            _one(state, request, now)


def read_next(state: State) -> bool:
    """Tell whether the configuration is to be read now, and mark the waiting reloads as being served."""
    running = [service for service in state.services.values() if service.active]
    busy = state.reading is not None or any(s.rolling or len(s.generations) > MOST - 1 for s in running)
    if busy or not state.pending or state.stopping:
        return False
    state.reading, state.pending = state.pending, []
    state.tell("reload_started")
    return True


def first(state: State, config: Config) -> None:
    """Want the services of the configuration that the launcher starts with."""
    state.generation = 1
    for spec in config.services:
        state.services[spec.name] = Service(spec.name, Generation(1, spec))


def _one(state: State, request: Reload | Restart | Stop | Scale | SignalWorkers, now: float) -> None:
    kind = _KINDS[type(request)]
    if state.stopping:
        refuse(state, kind, request.ticket, "the launcher is stopping", now)
    elif isinstance(request, Reload):
        if request.ticket or request not in state.pending:  # of HUPs, whom nobody waits for, one is enough
            state.pending.append(request)
    elif request.service is not None and not _known(state, request):
        refuse(state, kind, request.ticket, _unknown(request.service, state), now)
    elif isinstance(request, Restart):
        _restart(state, request, now)
    elif isinstance(request, Scale):
        _scale(state, request, now)
    elif isinstance(request, SignalWorkers):
        _signal(state, request, now)
    else:
        assert request.service is not None  # to stop everything is another matter
        _stop_service(state, state.services[request.service], quick=request.quick, now=now)
        issue(state, STOP, request.ticket, {request.service}, now)


def _known(state: State, request: Restart | Stop | Scale | SignalWorkers) -> bool:
    """Tell whether there is such a service; one that was removed can still be told to stop faster."""
    service = state.services.get(request.service or "")
    return service is not None and (service.wanted != REMOVED or isinstance(request, Stop))


def _unknown(name: str, state: State) -> str:
    return f"no service is named {name!r}; there are: {', '.join(state.services) or 'none'}"


def _restart(state: State, request: Restart, now: float) -> None:
    chosen = [s for s in state.services.values() if request.service in {None, s.name} and s.wanted != REMOVED]
    for service in chosen:
        service.start_afresh()
        if service.active and service.begun:
            service.target = Target(service.target.generation, state.last_id + 1)
        elif not service.active:
            _start_again(state, service, now)
    issue(state, RESTART, request.ticket, {service.name for service in chosen}, now)


def _scale(state: State, request: Scale, now: float) -> None:
    """Want another number of workers, until a reload brings a new generation with its own."""
    names = [request.service] if request.service is not None else _services(state)
    if len(names) != 1:
        refuse(state, SCALE, request.ticket, f"there are {len(names)} services: name the one to scale", now)
        return
    service = state.services[names[0]]
    if not service.active:
        how = "stopped" if service.failed is None else "failed"
        refuse(state, SCALE, request.ticket, f"{service.name} is {how}: restart it first", now)
        return
    size = max(1, service.size + request.workers) if request.relative else request.workers
    size = min(size, MOST_WORKERS)
    for number in {service.target.generation, service.settled.generation}:
        service.generations[number].workers = size
    state.tell("scaled", service, text=f"{size} worker{'' if size == 1 else 's'} wanted")
    issue(state, SCALE, request.ticket, {service.name}, now)


def _services(state: State) -> list[str]:
    """Return the names that the configuration has."""
    return [name for name, one in state.services.items() if name not in BUILT_IN and one.wanted != REMOVED]


def _signal(state: State, request: SignalWorkers, now: float) -> None:
    services = [s for s in state.services.values() if request.service in {None, s.name}]
    chosen = [(service, worker) for service in services for worker in _addressed(service, request.slot)]
    if not chosen:
        where = request.service if request.slot is None else f"{request.service}/{request.slot}"
        refuse(state, SIGNAL, request.ticket, f"no worker of {where} lives", now)
        return
    for service, worker in chosen:
        service.owed.append((worker.id, request.signal))
    issue(state, SIGNAL, request.ticket, set(), now)


def _addressed(service: Service, slot: int | None) -> list[Incarnation]:
    """Return the workers that are processes; of one slot the one that serves it, else the newest."""
    workers = [worker for worker in service.workers.values() if worker.pid is not None]
    if slot is None:
        return workers
    workers = [worker for worker in workers if worker.slot == slot]
    return sorted(workers, key=lambda worker: (worker.phase == READY, worker.id))[-1:]


def _start_again(state: State, service: Service, now: float) -> None:
    resolve(state, service.name, {STOP}, "started again before it had stopped", now)
    service.wanted, service.quick, service.failed = RUNNING, False, None
    service.target = service.settled = Target(service.settled.generation, state.last_id + 1)
    service.generations[service.settled.generation].backoff.reset()


def _stop_service(state: State, service: Service, *, quick: bool, now: float, wanted: str = STOPPED) -> None:
    if service.wanted == RUNNING:
        service.wanted = wanted
        service.failed, service.target = None, service.settled
        kinds = {RESTART, SCALE} if wanted == REMOVED else {RELOAD, RESTART, SCALE}
        resolve(state, service.name, kinds, "stopped meanwhile", now)
    service.quick = service.quick or quick


def stop_all(state: State, ticket: int, *, quick: bool, now: float) -> None:
    """Stop everything; asked for a second time, at once."""
    quick = quick or state.stopping
    if not state.stopping:
        state.stopping = True
        state.tell("stopping")
        for waiting in [*state.pending, *(state.reading or ())]:
            refuse(state, RELOAD, waiting.ticket, "the launcher is stopping", now)
        state.pending, state.reading = [], None
    for service in state.services.values():
        _stop_service(state, service, quick=quick, now=now)
        service.wanted = STOPPED
    issue(state, STOP, ticket, set(state.services), now)


def _config_refused(state: State, problems: tuple[str, ...], now: float) -> None:
    requests, state.reading = state.reading or [], None
    text = "\n".join(problems)
    state.tell("config_refused", text=text)
    for request in requests:
        refuse(state, RELOAD, request.ticket, text, now)


def _config_read(state: State, config: Config, now: float) -> None:
    if state.reading is None:
        return
    if config.runtime_dir != state.config.runtime_dir:
        problem = f"runtime_dir: cannot change from {state.config.runtime_dir} while running; restart the launcher"
        _config_refused(state, (problem,), now)
        return
    requests, state.reading = state.reading, None
    names = {request.service for request in requests}
    running = {name for name, service in state.services.items() if service.wanted != REMOVED}
    needed = BUILT_IN - running  # by whichever service brought it about
    specs = {spec.name: spec for spec in config.services if None in names or spec.name in names | needed}
    gone = [n for n in state.services if (None in names or n in names) and n not in {s.name for s in config.services}]
    if None in names:
        state.config = config
    state.generation += 1
    touched = {name for name, spec in specs.items() if _want(state, spec, now)}
    for name in gone:
        touched.add(name)
        _remove(state, state.services[name], now)
    for request in requests:
        known = request.service is None or request.service in state.services
        if known:
            issue(state, RELOAD, request.ticket, _scope(request, touched), now)
        else:
            refuse(state, RELOAD, request.ticket, _unknown(str(request.service), state), now)


def _scope(request: Reload, touched: set[str]) -> set[str]:
    return {name for name in touched if request.service in {None, name}}


def _want(state: State, spec: ServiceSpec, now: float) -> bool:
    """Want the new spec of a service; tell whether something is to be waited for."""
    generation = Generation(state.generation, spec)
    service = state.services.get(spec.name)
    if service is None:
        state.services[spec.name] = Service(spec.name, generation)
        return True
    service.start_afresh()
    if service.active and service.begun and spec.reload == "signal" and spec == service.spec:
        service.generations[service.target.generation].workers = spec.workers
        service.hup = {worker.id for worker in service.workers.values() if worker.serving}
        return True
    service.generations[generation.number] = generation
    service.target = Target(generation.number)
    if not (service.active and service.begun):  # there is nothing to roll from
        service.settled = service.target
    service.failed = None
    if service.wanted == REMOVED:
        resolve(state, service.name, {STOP}, "wanted again before it had stopped", now)
        service.wanted, service.quick = RUNNING, False
    return service.wanted == RUNNING


def _remove(state: State, service: Service, now: float) -> None:
    if service.wanted == STOPPED:
        resolve(state, service.name, {STOP}, "removed meanwhile", now)
    _stop_service(state, service, quick=False, now=now, wanted=REMOVED)
    service.wanted = REMOVED
