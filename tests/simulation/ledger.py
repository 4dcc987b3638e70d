"""An independent record of what the supervisor was told and what it ordered; it judges nothing.

Kept apart from the World: the supervisor can only be blamed for what it could know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkd.core import commands, events
from tests.simulation.waits import Waits

if TYPE_CHECKING:
    from forkd.core.spec import Config, ServiceSpec

LATE = 1.0  # a wake-up later than this must not be held against a process


Request = events.Reload | events.Restart | events.Stop


class Asked(NamedTuple):
    """A request of an operator, and when it was made."""

    request: Request
    at: float


class Life:
    """What the supervisor knows of one incarnation: the instants (seconds) of what it was told and ordered.

    In its present phase it has `pardon` seconds more than its timeout at least, and `slack` at most, because the
    launcher or the machine stood still; `doubtful` is set once something happened for which the supervisor may have wanted its end.
    """

    __slots__ = ("born", "doubtful", "draining", "exited", "failed", "generation", "id", "pardon", "ready", "signals",
                 "slack", "slot", "spec", "started", "zygote")  # fmt: skip

    def __init__(self, id: int, generation: int, spec: ServiceSpec, born: float) -> None:
        self.id, self.generation, self.spec, self.born = id, generation, spec, born
        self.slot: int | None = None
        self.zygote: int | None = None
        self.started: float | None = None
        self.ready: float | None = None
        self.failed: float | None = None
        self.draining: float | None = None
        self.exited: float | None = None
        self.signals: dict[int, float] = {}
        self.pardon = self.slack = 0.0
        self.doubtful = False

    def enter_phase(self) -> None:
        """Begin to count anew how long it has had."""
        self.pardon = self.slack = 0.0

    @property
    def service(self) -> str:
        """Whose it is."""
        return self.spec.name

    @property
    def asked(self) -> bool:
        """Whether the launcher told it to stop."""
        return commands.TERM in self.signals or commands.QUIT in self.signals

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out, asked or not."""
        return self.draining is not None or bool(self.signals.keys() - {commands.HUP})

    @property
    def serving(self) -> bool:
        """Whether it serves, as far as one can know."""
        return self.ready is not None and not self.leaving

    def __str__(self) -> str:
        what = "zygote" if self.slot is None else f"slot {self.slot}"
        return f"{self.service} {what} #{self.id} of generation {self.generation}"


class Ledger:
    """All lives, the living ones by service; what operators asked for; what the configuration says."""

    def __init__(self, config: Config) -> None:
        self.runtime_dir = config.runtime_dir
        self.configured = {spec.name: spec for spec in config.services}
        self.lives: dict[int, Life] = {}
        self.workers: dict[str, dict[int, Life]] = {}  # the living ones
        self.zygotes: dict[str, dict[int, Life]] = {}
        self.generations: dict[tuple[str, int], ServiceSpec] = {}
        self.settled: dict[str, int] = {}  # the generation that a roll starts from, as the supervisor shows it
        self.rolled: set[tuple[str, int]] = set()
        self.fresh: set[str] = set()  # services that had nothing to roll from when their spec was read
        self.retired: dict[tuple[str, int], float] = {}
        self.closed: set[str] = set()  # services that were retired because they stop
        self.emptied: dict[tuple[str, int], float] = {}  # when the last worker of a generation died
        self.waits = Waits()
        self.asked_to_read: list[events.Reload] = []
        self.reading: list[events.Reload] | None = None
        self.stopping = False
        self.stopped: set[str] = set()
        self.hurried: set[str] = set()  # services to stop at once
        self.dropped: set[tuple[str, int]] = set()  # generations that were rolled back
        self.tickets: dict[int, Asked] = {}
        self.last_request: Asked | None = None
        self.read_at = 0.0

    def order(self, command: commands.Command, now: float) -> None:
        """Write down a command that is about to be performed."""
        match command:
            case commands.ReadConfig():
                self.reading, self.asked_to_read = self.asked_to_read, []
            case commands.StartZygote(id, generation, spec):
                self.generations[spec.name, generation] = spec
                self.retired.pop((spec.name, generation), None)
                self.closed.discard(spec.name)
                self.lives[id] = self.zygotes.setdefault(spec.name, {})[id] = Life(id, generation, spec, now)
            case commands.Spawn(id, zygote, slot):
                parent = self.lives[zygote]
                self.lives[id] = life = Life(id, parent.generation, parent.spec, now)
                life.slot, life.zygote = slot, zygote
                self.workers.setdefault(life.service, {})[id] = life
            case commands.Signal(id, number):
                self.lives[id].signals[number] = now
                self.lives[id].enter_phase()
            case commands.Retire(service, generation):
                self.retired[service, generation] = now
                if self.stops(service):
                    self.closed.add(service)
                self._time_zygotes(service, generation)

    def tell(self, event: events.Event, now: float) -> None:
        """Write down an event that the supervisor is about to observe."""
        match event:
            case events.Started() | events.Ready() | events.Failed() | events.Draining() | events.Exited():
                life = self.lives[event.id]
                if life.exited is None:  # else it comes late
                    self._of_life(life, event, now)
            case events.ConfigRead() | events.ConfigRefused():
                reading, self.reading = self.reading, None
                if isinstance(event, events.ConfigRead) and reading is not None and not self.stopping:
                    self.read_at = now
                    self._apply(event.config, {request.service for request in reading})
            case _:
                self._requested(event, now)

    def _of_life(self, life: Life, event: events.Event, now: float) -> None:
        match event:
            case events.Started():
                life.started = life.started or now
            case events.Ready():
                if life.started is not None and not life.leaving:
                    life.ready = life.ready or now
                    if life.slot is None:
                        self._doubt({life.service})  # it may serve instead of an older generation
            case events.Failed():
                life.failed = life.failed or now
            case events.Draining():
                if life.slot is not None and not life.leaving:
                    self.waits.ended(life, now)
                    life.enter_phase()
                    life.draining = now
            case events.Exited():
                if life.slot is None or not (life.asked or life.draining):
                    self.waits.ended(life, now, retired=(life.service, life.generation) in self.retired)
                life.exited = now
                self._blame(life)
                del (self.zygotes if life.slot is None else self.workers)[life.service][life.id]
                key = life.service, life.generation
                if not self.populated(*key):
                    self.emptied[key] = now
                    if key in self.retired:
                        self._time_zygotes(*key)

    def _time_zygotes(self, service: str, generation: int) -> None:
        """Begin to count how long a retired zygote takes."""
        for life in self.zygotes[service].values():
            if life.generation == generation:
                life.enter_phase()

    def _blame(self, life: Life) -> None:
        """Give up a generation that is being rolled out, once an import or a worker of it has failed."""
        unasked = not (life.asked or life.draining or life.doubtful or life.ready)
        running = life.service in self.configured and life.service not in self.stopped | self.fresh
        if unasked and running and self.settled.get(life.service, life.generation) != life.generation:
            self.dropped.add((life.service, life.generation))

    def _apply(self, config: Config, names: set[str | None]) -> None:
        if config.runtime_dir != self.runtime_dir:
            return
        read = {spec.name: spec for spec in config.services}
        for name in {**self.configured, **read}:
            if None not in names and name not in names:
                continue
            self.forgive(name)
            running = name in self.configured and name not in self.stopped
            (self.fresh.discard if running else self.fresh.add)(name)
            if name in read:
                self.configured[name] = read[name]
            else:
                del self.configured[name]
                self.stopped.discard(name)
                self.hurried.discard(name)

    def _requested(self, event: Request, now: float) -> None:
        self.last_request = asked = Asked(event, now)
        if event.ticket:
            self.tickets[event.ticket] = asked
        if self.stopping:
            if isinstance(event, events.Stop) and event.service is None:
                self.hurried |= set(self.configured)
            return
        named = self.named(event)
        if isinstance(event, events.Reload):
            self.asked_to_read.append(event)
        elif isinstance(event, events.Stop):
            self.hurried |= named if event.quick else set()
            self.stopping = event.service is None
            self.stopped |= named
            self._doubt(named)
        else:
            for name in sorted(named):
                if name in self.stopped:
                    self.waits.forgive_zygotes(name)
                self.forgive(name)
            self.stopped -= named
            self.hurried -= named

    def named(self, request: Request) -> set[str]:
        """Return the services that a request is about."""
        return {name for name in self.configured if request.service in {None, name}}

    def rolled_back(self, service: str, to: int) -> None:
        """Write down that all after generation `to` was given up."""
        self.dropped |= {key for key in self.generations if key[0] == service and key[1] > to}
        self.forgive(service)

    def forgive(self, service: str) -> None:
        """Forget the failures of its slots: it is about to run something else, or again."""
        self.waits.forgive(service)
        self._doubt({service})

    def _doubt(self, services: set[str]) -> None:
        for service in services:
            for life in self.workers.get(service, {}).values():
                life.doubtful = True

    def stops(self, service: str) -> bool:
        """Return whether a service is to stop, or has."""
        return self.stopping or service in self.stopped or service not in self.configured

    def populated(self, service: str, generation: int) -> bool:
        """Return whether workers of a generation live."""
        return any(life.generation == generation for life in self.living(service))

    def living(self, service: str) -> list[Life]:
        """Return its living workers."""
        return list(self.workers.get(service, {}).values())

    def counted(self, service: str) -> list[Life]:
        """Return the living workers that a surge counts: not those that drain of their own accord."""
        return [life for life in self.living(service) if life.asked or life.draining is None]

    def unborn(self, service: str) -> int:
        """Return how many workers were ordered and have not announced themselves."""
        return sum(life.started is None for life in self.living(service))

    def stood_still(self, late: float, slept: float, now: float) -> None:
        """Write down that the launcher slept for `slept` seconds and woke up `late` seconds after its deadline.

        A long delay is given back to all that is timed: at least the delay, at most the whole sleep. Not to a zygote
        whose time begins now, with the death of its last worker.
        """
        for group in (self.zygotes, self.workers):
            for lives in group.values():
                for life in lives.values():
                    life.slack += slept if late > LATE else late
                    begins = life.slot is None and self.emptied.get((life.service, life.generation)) == now
                    life.pardon += late if late > LATE and not begins else 0.0
