"""How long a slot or a zygote must wait after each end, computed anew from the words of the reference.

A worker that was ready and lived `healthy_after` is replaced at once; the n-th other end in a row makes its
slot wait min(max_delay, delay * factor ** (n - 1)). Nothing that the launcher asked for counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forkd.core.spec import RestartSpec
    from tests.simulation.life import Life


class Wait(NamedTuple):
    """After `failures` bad ends in a row nothing is tried before `until`; `known` unless specs differ, or the like."""

    failures: int = 0
    until: float = 0.0
    known: bool = True
    spec: RestartSpec | None = None


Key = tuple[str, int]  # a service, and the slot or the generation of the zygote


class Waits:
    """The waits of every slot, and of every generation's zygote."""

    def __init__(self) -> None:
        self.slots: dict[Key, Wait] = {}
        self.zygotes: dict[Key, Wait] = {}

    def slot(self, service: str, slot: int) -> Wait:
        """Return the wait of a slot."""
        return self.slots.get((service, slot), Wait())

    def zygote(self, service: str, generation: int) -> Wait:
        """Return the wait of a zygote."""
        return self.zygotes.get((service, generation), Wait())

    def forgive(self, service: str) -> None:
        """Forget what happened to the slots of a service."""
        for key in [key for key in self.slots if key[0] == service]:
            del self.slots[key]

    def forgive_zygotes(self, service: str) -> None:
        """Forget what happened to the zygotes of a service."""
        for key in [key for key in self.zygotes if key[0] == service]:
            del self.zygotes[key]

    def ended(self, life: Life, now: float, *, retired: bool = False) -> None:
        """Count the end of a life that nobody asked for."""
        if life.slot is not None:
            key, waits = (life.service, life.slot), self.slots
        else:
            key, waits = (life.service, life.generation), self.zygotes
        before = waits.get(key, Wait())
        if retired:
            return
        if life.ready is not None and now - life.born >= life.spec.restart.healthy_after:
            waits[key] = Wait()
        elif life.doubtful or not before.known or before.spec not in {None, life.spec.restart}:
            waits[key] = Wait(known=False)
        else:
            failures = before.failures + 1
            waits[key] = Wait(failures, now + delay(life.spec.restart, failures), spec=life.spec.restart)


def delay(spec: RestartSpec, failures: int) -> float:
    """Return the seconds to wait after so many bad ends in a row."""
    return min(spec.max_delay, spec.delay * spec.factor ** min(failures - 1, 64))
