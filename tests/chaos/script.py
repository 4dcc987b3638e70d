"""What is done to whom, drawn from a seed alone: a target is a role and an index, for pids differ from run to run."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from forkd.control import protocol

T = TypeVar("T")

WORKER, ZYGOTE, SPARE, LAUNCHER = "worker", "zygote", "spare", "launcher"
_ROLES = {WORKER: 70, ZYGOTE: 15, SPARE: 15}
_SIGNALS = {
    signal.SIGKILL: 50,
    signal.SIGTERM: 15,
    signal.SIGSTOP: 8,
    signal.SIGHUP: 8,
    signal.SIGQUIT: 6,
    signal.SIGABRT: 6,
    signal.SIGCONT: 3,
}
_ORDERS = {"reload": 4, "restart": 4, "scale": 4, "signal": 2}
_REST = 0.4  # seconds between two acts, on average
_LONGEST_STOP = 3.5  # seconds: some are over before a worker is taken to hang, some are not


class Hit(NamedTuple):
    """A signal for the process of a role that comes at `pick` among those that there are, modulo their number."""

    signal: signal.Signals
    role: str
    pick: int
    seconds: float = 0.0

    def __str__(self) -> str:
        held = f" for {self.seconds:.2f} s" if self.seconds else ""
        return f"{self.signal.name}{held} to {self.role} #{self.pick}"


class Act(NamedTuple):
    """After a rest, all at once: an operator's order, if any, for the service that `pick` means, and some hits."""

    number: int
    rest: float
    order: str | None
    pick: int
    hits: tuple[Hit, ...]

    def __str__(self) -> str:
        order = [f"forkd {self.order} of service #{self.pick}"] if self.order else []
        return f"act {self.number}: " + ", ".join([*order, *map(str, self.hits)])


def acts(seed: int) -> Iterator[Act]:
    """Yield acts without end."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        rest = dice.expovariate(1 / _REST)
        order = _one(dice, {name: weight for name, weight in _ORDERS.items() if name in protocol.VERBS})
        ordered = dice.random() < 0.12
        some = 1 if dice.random() < 0.7 else dice.randint(2, 4)
        hits = tuple(_hit(dice) for _ in range(0 if ordered and dice.random() < 0.5 else some))
        yield Act(number, rest, order if ordered else None, dice.randrange(1000), hits)


def _hit(dice: random.Random) -> Hit:
    number, role, index = _one(dice, _SIGNALS), _one(dice, _ROLES), dice.randrange(1000)
    seconds = dice.uniform(0.1, _LONGEST_STOP) if number == signal.SIGSTOP else 0.0
    if number == signal.SIGHUP and dice.random() < 0.25:
        role = LAUNCHER
    return Hit(number, role, index, seconds)


def _one(dice: random.Random, weights: dict[T, int]) -> T:
    return dice.choices(list(weights), list(weights.values()))[0]
