"""Stacks that somebody asked a worker for: one that does not show them is made to dump them, and then looked at.

What dumps them needs no help of the worker, and may cost one that is well its life: it is for those that do not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import DUMP, Look, Signal
from forkd.core.incarnation import KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.incarnation import Incarnation
    from forkd.core.service import Service

# Seconds. A worker with many busy threads takes one or two to answer; one that is stuck dumps at once if it can.
ANSWER, DUMPED = 5.0, 0.5


def asked(worker: Incarnation, now: float) -> None:
    """Write down that a worker is asked; one that has been told to dump will be looked at as it is."""
    if worker.stacks_by is None:
        worker.stacks_by = now + ANSWER


def shown(worker: Incarnation) -> None:
    """Write down that a worker has shown them, or has left none."""
    worker.stacks_by, worker.dumping = None, False


def press(service: Service, now: float) -> Iterator[Command]:
    """Make those dump that have not answered in time; look at what they have dumped."""
    for worker in service.workers.values():
        if worker.stacks_by is None or worker.stacks_by > now:
            continue
        if worker.aborted or worker.phase == KILLED:
            shown(worker)  # whatever there is to be had comes with its end
        elif worker.dumping:
            shown(worker)
            yield Look(worker.id)
        else:
            worker.dumping, worker.stacks_by = True, now + DUMPED
            yield Signal(worker.id, DUMP)


def next_deadline(service: Service) -> Iterator[float]:
    """Yield when each worker that was asked must have shown them."""
    yield from (worker.stacks_by for worker in service.workers.values() if worker.stacks_by is not None)
