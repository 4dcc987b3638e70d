"""The supervisor's record of one service: what is wanted and what is actual, as two facts side by side."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from forkd.core.backoff import Backoff
from forkd.core.incarnation import READY, Exit, Incarnation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.spec import ServiceSpec

RUNNING, STOPPED, REMOVED = "running", "stopped", "removed"
EXITS_KEPT = 10


class Target(NamedTuple):
    """Which workers are as wanted: those of `generation` whose id is at least `since`."""

    generation: int
    since: int = 0


class Generation:
    """A spec with the zygote that imported its code; `retired` once the kernel was told to let it go.

    `workers` is how many are wanted, as the spec says or an operator has since.
    """

    __slots__ = ("backoff", "number", "retired", "spec", "workers", "zygote")

    def __init__(self, number: int, spec: ServiceSpec) -> None:
        self.number = number
        self.spec = spec
        self.workers = spec.workers
        self.zygote: Incarnation | None = None
        self.backoff = Backoff()
        self.retired = True  # the kernel holds nothing of it yet

    @property
    def imported(self) -> bool:
        """Whether its zygote can fork workers now."""
        return self.zygote is not None and self.zygote.phase == READY


class Slot:
    """What outlives the workers of one slot: its backoff, the ends they came to, and whether that was the `last` one.

    Nobody follows the last one, by the service's restart policy.
    """

    __slots__ = ("backoff", "exits", "last", "restarts")

    def __init__(self) -> None:
        self.backoff = Backoff()
        self.exits: deque[Exit] = deque(maxlen=EXITS_KEPT)
        self.restarts = 0
        self.last = False

    def reset(self) -> None:
        """Forget its failures, and that it was done."""
        self.backoff.reset()
        self.last = False


# What is asked at every turn, of a thousand workers at times, is spelled out below without a call for each of them.
class Service:
    """A service as wanted (`wanted`, `target`) and as it is (`workers`, `generations`).

    `settled` is the last target that was reached, or the first one; while `target` differs from it
    a roll is under way, and a failure takes `target` back to it. `failed` says why it was given up. It has `begun`
    once what it comes after was ready; until then it `waits` for those. `owed` are signals that operators send.
    """

    __slots__ = (
        "begun",
        "error",
        "failed",
        "failures",
        "generations",
        "hup",
        "name",
        "owed",
        "quick",
        "settled",
        "slots",
        "target",
        "waits",
        "wanted",
        "workers",
    )

    def __init__(self, name: str, generation: Generation) -> None:
        self.name = name
        self.wanted = RUNNING
        self.quick = self.begun = False
        self.waits: list[str] = []
        self.generations = {generation.number: generation}
        self.target = self.settled = Target(generation.number)
        self.workers: dict[int, Incarnation] = {}
        self.slots: dict[int, Slot] = {}
        self.error: str | None = None
        self.failed: str | None = None
        self.failures: deque[float] = deque()
        self.hup: set[int] = set()
        self.owed: list[tuple[int, int]] = []  # an incarnation's id, and the signal

    @property
    def active(self) -> bool:
        """Whether it is to run: nobody has stopped it, and it was not given up."""
        return self.wanted == RUNNING and self.failed is None

    @property
    def rolling(self) -> bool:
        """Whether a reload or a restart is under way."""
        return self.target != self.settled

    @property
    def spec(self) -> ServiceSpec:
        """The spec of the target."""
        return self.generations[self.target.generation].spec

    @property
    def size(self) -> int:
        """How many workers are wanted of the target."""
        return self.generations[self.target.generation].workers

    @property
    def aim(self) -> Target:
        """What empty slots are filled with: the target, but while it still imports, what served before."""
        return self.target if self.generations[self.target.generation].imported else self.settled

    def slot(self, index: int) -> Slot:
        """Return the record of a slot, made when it is first asked for."""
        if index not in self.slots:
            self.slots[index] = Slot()
        return self.slots[index]

    def start_afresh(self) -> None:
        """Let what failed before count no more."""
        for slot in self.slots.values():
            slot.reset()
        self.failures.clear()

    def matches(self, worker: Incarnation, target: Target) -> bool:
        """Tell whether the worker is what the target wants."""
        return worker.generation == target.generation and worker.id >= target.since

    def wanted_slots(self, generation: Generation) -> list[int]:
        """Return the slots of a generation that are to have a worker."""
        done = {index for index, slot in self.slots.items() if slot.last}
        return [index for index in range(generation.workers) if index not in done]

    def ready(self) -> list[Incarnation]:
        """Return the workers that serve."""
        return [worker for worker in self.workers.values() if worker.phase == READY]

    def ready_slots(self) -> set[int | None]:
        """Return the slots that a worker as wanted serves."""
        wanted, (generation, since) = range(self.size), self.target
        return {
            worker.slot
            for worker in self.workers.values()
            if worker.phase == READY
            and worker.generation == generation
            and worker.id >= since
            and worker.slot in wanted
        }

    def stale(self) -> list[Incarnation]:
        """Return the living workers that are not as wanted, or have no slot any more."""
        wanted, (generation, since) = range(self.size), self.target
        return [
            worker
            for worker in self.workers.values()
            if worker.generation != generation or worker.id < since or worker.slot not in wanted
        ]

    @property
    def populated(self) -> set[int]:
        """The generations that workers live of."""
        return {worker.generation for worker in self.workers.values()}

    @property
    def complete(self) -> bool:
        """Whether each slot that is to have a worker has a ready one as wanted."""
        return self.ready_slots().issuperset(self.wanted_slots(self.generations[self.target.generation]))

    @property
    def converged(self) -> bool:
        """Whether it is complete, the zygote is ready for more, and nothing old is left."""
        return self.generations[self.target.generation].imported and self.complete and not self.stale()

    @property
    def alone(self) -> bool:
        """Whether no zygote lives but that of the target."""
        target = self.target.generation
        return all(g.zygote is None for g in self.generations.values() if g.number != target)

    @property
    def closing(self) -> bool:
        """Whether it was told to stop and some of it lives on, without its listeners; it may be wanted again by now."""
        return not self.at_rest and all(generation.retired for generation in self.generations.values())

    @property
    def at_rest(self) -> bool:
        """Whether nothing of it lives."""
        return not self.workers and all(g.zygote is None for g in self.generations.values())

    def incarnations(self) -> Iterator[Incarnation]:
        """Yield its living zygotes and workers."""
        for generation in self.generations.values():
            if generation.zygote is not None:
                yield generation.zygote
        yield from self.workers.values()
