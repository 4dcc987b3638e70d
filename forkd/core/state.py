"""The supervisor's records: what is wanted and what is actual, as two facts side by side.

Nothing here decides; `rules` compares the two, `supervisor` writes down what happened.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.core.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.events import Reload
    from forkd.core.spec import Config, ServiceSpec

STARTING, READY, STOPPING, KILLED = "starting", "ready", "stopping", "killed"
RUNNING, STOPPED, REMOVED = "running", "stopped", "removed"
EXITS_KEPT = 10


class News(NamedTuple):
    """Something people may want to know; `kind` says which of the other fields are set."""

    kind: str
    service: str | None = None
    slot: int | None = None
    id: int | None = None
    pid: int | None = None
    generation: int | None = None
    ticket: int | None = None
    ok: bool | None = None
    text: str | None = None


class Exit(NamedTuple):
    """How an incarnation ended: at which monotonic second, by what, and why."""

    at: float
    code: int | None
    signal: int | None
    reason: str


class Incarnation:
    """One life of a zygote (`slot` None) or a worker.

    `deadline` is the instant its present phase must be over, `asked` whether the launcher wants it to
    stop, `draining` whether it stops of its own accord, `error` its own last words.
    """

    __slots__ = (
        "aborted",
        "asked",
        "born",
        "deadline",
        "draining",
        "error",
        "generation",
        "id",
        "phase",
        "pid",
        "quit",
        "ready_at",
        "slot",
        "zygote",
    )

    def __init__(self, id: int, generation: int, now: float, deadline: float) -> None:
        self.id = id
        self.generation = generation
        self.born = now
        self.deadline: float | None = deadline
        self.slot: int | None = None
        self.zygote: int | None = None
        self.phase = STARTING
        self.pid: int | None = None
        self.ready_at: float | None = None
        self.error: str | None = None
        self.asked = self.draining = self.aborted = self.quit = False

    @property
    def serving(self) -> bool:
        """Whether it starts or serves, and was not told to stop."""
        return self.phase in {STARTING, READY}


class Target(NamedTuple):
    """Which workers are as wanted: those of `generation` whose id is at least `since`."""

    generation: int
    since: int = 0


class Generation:
    """A spec with the zygote that imported its code; `retired` once the kernel was told to let it go."""

    __slots__ = ("backoff", "error", "number", "retired", "spec", "zygote")

    def __init__(self, number: int, spec: ServiceSpec) -> None:
        self.number = number
        self.spec = spec
        self.zygote: Incarnation | None = None
        self.backoff = Backoff()
        self.retired = True  # the kernel holds nothing of it yet

    @property
    def imported(self) -> bool:
        """Whether its zygote can fork workers now."""
        return self.zygote is not None and self.zygote.phase == READY


class Slot:
    """What outlives the workers of one slot: its backoff and the ends they came to."""

    __slots__ = ("backoff", "exits", "restarts")

    def __init__(self) -> None:
        self.backoff = Backoff()
        self.exits: deque[Exit] = deque(maxlen=EXITS_KEPT)
        self.restarts = 0


class Service:
    """A service as wanted (`wanted`, `target`) and as it is (`workers`, `generations`).

    `settled` is the last target that was reached, or the first one; while `target` differs from it
    a roll is under way, and a failure takes `target` back to it.
    """

    __slots__ = ("error", "generations", "hup", "name", "quick", "settled", "slots", "target", "wanted", "workers")

    def __init__(self, name: str, generation: Generation) -> None:
        self.name = name
        self.wanted = RUNNING
        self.quick = False
        self.generations = {generation.number: generation}
        self.target = self.settled = Target(generation.number)
        self.workers: dict[int, Incarnation] = {}
        self.slots: dict[int, Slot] = {}
        self.error: str | None = None
        self.hup: set[int] = set()

    @property
    def rolling(self) -> bool:
        """Whether a reload or a restart is under way."""
        return self.target != self.settled

    @property
    def spec(self) -> ServiceSpec:
        """The spec of the target."""
        return self.generations[self.target.generation].spec

    @property
    def aim(self) -> Target:
        """What empty slots are filled with: the target, but while it still imports, what served before."""
        return self.target if self.generations[self.target.generation].imported else self.settled

    def slot(self, index: int) -> Slot:
        """Return the record of a slot, made when it is first asked for."""
        if index not in self.slots:
            self.slots[index] = Slot()
        return self.slots[index]

    def matches(self, worker: Incarnation, target: Target) -> bool:
        """Tell whether the worker is what the target wants."""
        return worker.generation == target.generation and worker.id >= target.since

    def ready(self) -> list[Incarnation]:
        """Return the workers that serve."""
        return [worker for worker in self.workers.values() if worker.phase == READY]

    def ready_slots(self) -> set[int | None]:
        """Return the slots that a worker as wanted serves."""
        wanted = range(self.spec.workers)
        return {w.slot for w in self.ready() if self.matches(w, self.target) and w.slot in wanted}

    def stale(self) -> list[Incarnation]:
        """Return the living workers that are not as wanted, or have no slot any more."""
        wanted = range(self.spec.workers)
        return [w for w in self.workers.values() if not (self.matches(w, self.target) and w.slot in wanted)]

    @property
    def populated(self) -> set[int]:
        """The generations that workers live of."""
        return {worker.generation for worker in self.workers.values()}

    @property
    def converged(self) -> bool:
        """Whether every slot has its ready worker, the zygote is ready for more, and nothing old is left."""
        imported = self.generations[self.target.generation].imported
        return imported and len(self.ready_slots()) == self.spec.workers and not self.stale()

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


class Ticket:
    """An operator's request: over when no service is `waiting` any more, failed when there are `errors`."""

    __slots__ = ("errors", "kind", "number", "waiting")

    def __init__(self, kind: str, number: int, waiting: set[str]) -> None:
        self.kind = kind
        self.number = number
        self.waiting = waiting
        self.errors: list[str] = []


class LastReload(NamedTuple):
    """How the last reload ended: at which monotonic second, whether well, and if not why."""

    at: float
    ok: bool
    error: str | None


class State:
    """All that the supervisor knows; every change of it is told in `news`."""

    def __init__(self, config: Config, now: float) -> None:
        self.config = config
        self.started_at = now
        self.generation = 0
        self.last_id = 0
        self.last_reload: LastReload | None = None
        self.pending: list[Reload] = []
        self.reading: list[Reload] | None = None
        self.services: dict[str, Service] = {}
        self.living: dict[int, tuple[Service, Incarnation]] = {}
        self.tickets: list[Ticket] = []
        self.stopping = False
        self.news: list[News] = []

    def take_id(self) -> int:
        """Return an incarnation id that was never used before."""
        self.last_id += 1
        return self.last_id

    def tell(self, kind: str, service: Service | None = None, one: Incarnation | None = None, **facts: Any) -> None:
        """Append news of a service, and of one incarnation of it."""
        if service is not None:
            facts["service"] = service.name
        if one is not None:
            facts.update(slot=one.slot, id=one.id, pid=one.pid, generation=one.generation)
        self.news.append(News(kind, **facts))
