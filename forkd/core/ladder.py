"""How an incarnation is brought to its end, and no later than its spec allows: TERM or QUIT, ABRT, KILL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import ABRT, KILL, QUIT, TERM, Signal
from forkd.core.incarnation import KILLED, STARTING, STOPPING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.incarnation import Incarnation
    from forkd.core.service import Generation, Service


def stop(service: Service, worker: Incarnation, now: float) -> Iterator[Command]:
    """Tell a worker to stop, once; one that has no pid yet is told when it has."""
    spec = service.generations[worker.generation].spec
    if worker.pid is None:
        if not worker.asked and worker.deadline is not None:
            worker.deadline = min(worker.deadline, now + spec.kill_timeout)
    elif service.quick and not service.active:
        if not worker.quit and worker.phase != KILLED:
            worker.phase, worker.quit, worker.deadline = STOPPING, True, now + spec.kill_timeout
            yield Signal(worker.id, QUIT)
    elif worker.serving:
        worker.phase, worker.deadline = STOPPING, now + spec.stop_timeout
        yield Signal(worker.id, TERM)
    worker.asked = True


def climb(service: Service, now: float) -> Iterator[Command]:
    """Take those whose time is over one step further."""
    for one in list(service.incarnations()):
        if one.deadline is None or one.deadline > now:
            continue
        spec = service.generations[one.generation].spec
        in_vain = one.phase == STARTING and not one.asked
        if in_vain:
            one.error = one.error or f"not ready within {spec.start_timeout:g} s"
        if one.pid is None or one.aborted or one.quit:
            yield from _kill(one)
            if in_vain:
                yield from _kill_silent_zygote(service, one)
        else:
            one.phase, one.aborted, one.deadline = STOPPING, True, now + spec.kill_timeout
            yield Signal(one.id, ABRT)


def hurry(service: Service, now: float) -> None:
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


def dismiss(generation: Generation) -> Iterator[Command]:
    """Let a retired zygote exit by itself, after its last worker; one that still imports has nothing to finish."""
    zygote = generation.zygote
    if zygote is None or zygote.phase == KILLED:
        return
    importing = zygote.phase == STARTING
    zygote.asked = zygote.aborted = True
    zygote.phase, zygote.deadline = STOPPING, None
    if importing:
        yield from _kill(zygote)
