"""Which signals may be sent to whom, and when, but for those that operators send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import ABRT, DUMP, HUP, KILL, QUIT, STACKS, TERM
from tests.simulation.due import force_due, zygote_due
from tests.simulation.violation import EPSILON, Violation

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.life import Life

ONCE = {TERM, STACKS, ABRT, KILL, QUIT}


def judge(ledger: Ledger, life: Life, number: int, now: float) -> None:
    """Raise Violation if the launcher must not send this signal now."""
    _at_all(life, number)
    if number == HUP:
        _hup(ledger, life)
    elif life.slot is None:
        _end_zygote(ledger, life, number, now)
    elif number in {ABRT, KILL}:
        _force(life, number, now)
    elif number == STACKS:
        if not life.hung:
            raise Violation(f"{life} is to show its stacks, and nobody asked")
    elif number == DUMP:
        _dump(life, now)
    elif number == QUIT:
        if not ledger.wants.stops(life.service):
            raise Violation(f"QUIT to {life}, whose service is not stopped")
    elif not life.hung:
        _stop(ledger, life)


def _at_all(life: Life, number: int) -> None:
    """Refuse what no incarnation may get."""
    if life.exited is not None:
        raise Violation(f"signal {number} to {life}, which is dead")
    if number in ONCE and number in life.signals:
        raise Violation(f"a second signal {number} to {life}")
    if number != KILL and life.started is None:
        raise Violation(f"signal {number} to {life}, which has no pid yet")
    if KILL in life.signals:
        raise Violation(f"signal {number} to {life}, which was killed")


def _dump(life: Life, now: float) -> None:
    """Refuse to make a worker dump its stacks that may answer yet: it could die of that."""
    if life.stacks_by is None or life.dumping:
        raise Violation(f"{life} is to dump its stacks, which nobody waits for")
    if now < life.stacks_by - EPSILON:
        raise Violation(f"{life} is to dump its stacks {life.stacks_by - now:.3f} s before its time to answer is up")
    if ABRT in life.signals:
        raise Violation(f"{life} is to dump its stacks, and does so already")


def _hup(ledger: Ledger, life: Life) -> None:
    if not life.serving or "signal" not in {life.spec.reload, ledger.wants.configured[life.service].reload}:
        raise Violation(f"HUP to {life}")
    if life.signals.get(HUP, -1.0) >= ledger.wants.read_at:
        raise Violation(f"a second HUP to {life} for one reload")


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


def _end_zygote(ledger: Ledger, life: Life, number: int, now: float) -> None:
    if number not in {ABRT, KILL}:
        raise Violation(f"signal {number} to {life}, which heeds none")
    importing_in_vain = life.ready is None and (life.service, life.generation) in ledger.retired
    if importing_in_vain or any(_in_vain(w, now) for w in ledger.lives.workers(life.service) if w.zygote == life.id):
        return  # it does not do what it is there for
    due = zygote_due(ledger, life)
    if due is None or now < due + life.pardon - EPSILON:
        raise Violation(f"signal {number} to {life} before its time is up")


def _in_vain(worker: Life, now: float) -> bool:
    """Tell whether a zygote was told to fork this worker, has had its time, and did not."""
    return worker.started is None and now >= worker.born + worker.spec.start_timeout + worker.pardon - EPSILON


def _stop(ledger: Ledger, life: Life) -> None:
    """Refuse to stop a worker that serves and that nobody stands in for, or whose service must outlive another."""
    service = life.service
    if ledger.wants.stops(service):
        if ledger.held(service):
            raise Violation(f"TERM to {life} before what comes after {service} has stopped")
        return
    if not life.serving:
        return
    others = [other for other in ledger.lives.workers(service) if other.serving and other is not life]
    if any(other.slot == life.slot for other in others):
        return
    keys = [key for key in ledger.wants.sizes if key[0] == service and key not in ledger.retired]
    assert life.slot is not None
    serving = {other.slot for other in others}
    if any(
        life.slot >= ledger.wants.sizes[k] and (ledger.wants.sizes[k] <= len(others) or serving >= ledger.slots(*k))
        for k in keys
    ):
        return  # its slot is gone, and enough serve without it
    zygotes = ledger.lives.zygotes(service)
    if any(z.spec.reload == "restart" and z.ready is not None and not z.leaving for z in zygotes):
        return
    raise Violation(f"TERM to {life}, which serves and which nobody replaces")
