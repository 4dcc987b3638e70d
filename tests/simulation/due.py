"""When a process has had the time that its spec gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.commands import ABRT, KILL, QUIT, TERM

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.life import Life


def force_due(life: Life) -> float | None:
    """Return when a life that leaves or starts has had its time; None where nothing is due, or left to do."""
    spec, signals = life.spec, life.signals
    if KILL in signals:
        return None
    if ABRT in signals or QUIT in signals:
        return max(signals.get(ABRT, 0.0), signals.get(QUIT, 0.0)) + spec.kill_timeout
    if life.hung and TERM in signals:
        return signals[TERM] + spec.kill_timeout
    leaving = [when for when in (signals.get(TERM), life.draining) if when is not None]
    if leaving:
        return min(leaving) + spec.stop_timeout
    return life.born + spec.start_timeout if life.ready is None else None


def zygote_due(ledger: Ledger, life: Life) -> float | None:
    """Return when a zygote that imports, or was retired and has no worker any more, has had its time."""
    key = life.service, life.generation
    if key not in ledger.retired or KILL in life.signals:
        return force_due(life)
    if ledger.lives.populated(*key):
        return None
    since = max(ledger.retired[key], ledger.emptied.get(key, 0.0), life.signals.get(ABRT, 0.0))
    return since + life.spec.kill_timeout
