"""Batches of random connections, one seed each, against a server of each engine."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.wsgi.fuzz.judge import judge
from tests.wsgi.fuzz.mutation import script
from tests.wsgi.fuzz.stage import Violation

if TYPE_CHECKING:
    from tests.wsgi.fuzz.stage import Stage

CLIENTS = 40


def batch(stage: Stage, seed: int) -> Counter[str]:
    """Play the batch of a seed; return what there was, or raise `Violation`."""
    rng = random.Random(seed)
    scripts = [script(rng) for _ in range(CLIENTS)]
    try:
        results = stage.play(scripts, rng)
        for played in results:
            judge(played)
    except Violation as violation:
        raise Violation(f"seed {seed}, {stage.engine}: {violation}") from None
    counted = Counter(connections=CLIENTS, served=sum(len(played.seen) for played in results))
    for played in results:
        if played.answers is not None:
            counted["refused"] += played.answers.count(b"HTTP/1.1 4") + played.answers.count(b"HTTP/1.1 5")
    return counted
