"""Many histories one after the other, and how a failed one is told."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.history import History
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.history import Outcome

LONGEST = 20.0  # seconds of processor time for one history; a sound one takes a hundredth


class Batch(NamedTuple):
    """Many histories: their steps, what they exercised, and those that failed."""

    steps: int
    tally: Counter[str]
    failed: list[Outcome]


def run(seeds: range) -> Batch:
    """Run the histories of some seeds, each for LONGEST at most."""
    steps, tally, failed = 0, Counter[str](), []
    for seed in seeds:
        history = History(seed)
        with _watchdog():
            outcome = history.run()
        steps += outcome.steps
        tally.update(outcome.tally)
        if outcome.violation is not None:
            failed.append(outcome)
    return Batch(steps, tally, failed)


def describe(outcome: Outcome) -> str:
    """Tell how a history failed, and how to see it again."""
    lines = [*outcome.trace, f"seed {outcome.seed}: {outcome.violation}",
             f"replay it with: python -m tests.simulation --seed {outcome.seed}"]  # fmt: skip
    return "\n".join(lines)


@contextmanager
def _watchdog() -> Iterator[None]:
    """Let a plan that goes on for ever be a violation like any other; virtual time cannot see it."""
    before = signal.signal(signal.SIGVTALRM, _bark)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _bark(number: int, frame: object) -> None:
    raise Violation("the supervisor's plan does not come to an end")
