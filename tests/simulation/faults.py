"""What can go wrong, by name, and how often it does in one history. It decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from random import Random

# Where a rate is given it is the kind's share of 1 at full strength; rare ones would else end every history at once.
FAULTS = {
    # a zygote
    "exec fails": 0.3,
    "import fails": 0.2,
    "import hangs": 0.2,
    "dies in import": 0.2,
    "zygote dies": 0.3,
    "zygote ignores its end": 0.4,
    "ready zygote lost": 0.2,
    # a worker
    "fork fails": 0.2,
    "never announces itself": 0.1,
    "fails at start": 0.2,
    "dies at start": 0.2,
    "never ready": 0.15,
    "dies": 0.5,
    "exits unasked": 0.2,
    "drains unasked": 0.3,
    "hangs": 0.3,
    "ends when found to hang": 0.3,
    "recycles": 0.3,
    "fails its healthcheck": 0.2,
    "slow drain": 0.3,
    "endless drain": 0.2,
    "ignores TERM": 0.2,
    "ignores QUIT": 0.3,
    "ignores ABRT": 0.5,
    "unkillable": 0.5,
    "ready after TERM": 1.0,
    "dies of HUP": 1.0,
    "shows no stacks": 1.0,
    # a message on its way up
    "started lost": 0.1,
    "ready lost": 0.1,
    "failed lost": 0.3,
    "draining lost": 0.3,
    "recycle lost": 0.3,
    "health lost": 0.3,
    "seen lost": 1.0,
    "message doubled": 0.2,
    "message late": 0.1,
    # the machine, and the configuration
    "wakes early": 0.1,
    "oversleeps": 0.02,
    "machine sleeps": 0.02,
    "machine sleeps between two looks": 0.5,
    "slow read": 0.3,
    "configuration refused": 0.4,
}

SLOW_TO_GO = ("slow drain", "endless drain", "ignores TERM")
TOLD = ("fails at start", "drains unasked", "recycles", "fails its healthcheck", "dies of HUP", "hangs")  # can be lost
HANGING = ("hangs", "machine sleeps between two looks", "ends when found to hang", "shows no stacks")


class Faults:
    """The faults of one history; `heal` ends them for good."""

    __slots__ = ("_rates", "_rng", "_tally")

    def __init__(self, rng: Random, tally: Counter[str]) -> None:
        self._rng = rng
        self._tally = tally
        self._rates = _draw(rng)

    def hit(self, kind: str) -> bool:
        """Whether `kind` strikes here; counted if it does."""
        rate = self._rates.get(kind, 0.0)
        if rate == 0.0 or self._rng.random() >= rate:
            return False
        self._tally["fault: " + kind] += 1
        return True

    @property
    def calm(self) -> bool:
        """Whether this history has no fault, or none any more."""
        return not self._rates

    def heal(self) -> None:
        """No fault strikes from here on."""
        self._rates = {}


def _draw(rng: Random) -> dict[str, float]:
    """Draw for a history: calm, a little of all, workers that are slow to go, lost words, hangs, much of a few kinds."""
    shape = rng.random()
    if shape < 0.25:
        return {}
    if shape < 0.5:
        return {kind: rate * 0.2 for kind, rate in FAULTS.items()}
    if shape < 0.58:
        return dict.fromkeys(SLOW_TO_GO, 0.7)
    if shape < 0.66:
        lost = [kind for kind in FAULTS if kind.endswith(" lost")]
        return {kind: FAULTS[kind] for kind in (*TOLD, *lost)}
    if shape < 0.74:
        return dict.fromkeys(HANGING, 0.5)
    kinds = rng.sample(sorted(FAULTS), rng.randint(1, 8))
    return {kind: FAULTS[kind] * rng.choice((0.3, 1.0, 2.0)) for kind in kinds}
