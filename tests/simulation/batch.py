"""Many histories one after the other, and how a failed one is told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.history import History

if TYPE_CHECKING:
    from tests.simulation.history import Outcome


class Batch(NamedTuple):
    """Many histories: their steps, what they exercised, and those that failed."""

    steps: int
    tally: Counter[str]
    failed: list[Outcome]


def run(seeds: range) -> Batch:
    """Run the histories of some seeds."""
    steps, tally, failed = 0, Counter[str](), []
    for seed in seeds:
        outcome = History(seed).run()
        steps += outcome.steps
        tally += outcome.tally
        if outcome.violation is not None:
            failed.append(outcome)
    return Batch(steps, tally, failed)


def describe(outcome: Outcome) -> str:
    """Tell how a history failed, and how to see it again."""
    lines = [*outcome.trace, f"seed {outcome.seed}: {outcome.violation}",
             f"replay it with: python -m tests.simulation --seed {outcome.seed}"]  # fmt: skip
    return "\n".join(lines)
