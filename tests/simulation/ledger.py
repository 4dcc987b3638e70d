"""An independent record of what the supervisor was told and what it ordered; it judges nothing.

Kept apart from the World: the supervisor can only be blamed for what it could know.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from forkd.core import commands, events
from tests.simulation.waits import Waits

if TYPE_CHECKING:
    from forkd.core.spec import Config, ServiceSpec

LATE = 1.0  # a wake-up later than this must not be held against a process


Request = events.Reload | events.Restart | events.Stop | events.Scale | events.SignalWorkers


class Asked(NamedTuple):
    """A request of an operator, and when it was made."""

    request: Request
    at: float


class Life:
    """What the supervisor knows of one incarnation: the instants (seconds) of what it was told and ordered.

    In its present phase it has `pardon` seconds more than its timeout at least, and `slack` at most, because the
    launcher or the machine stood still; `doubtful` is set once something happened for which the supervisor may have wanted its end.
    `due`: it is to be replaced though it serves. `beat` is its last known sign of life, `silent` when it was first found
    to have given none for too long.
    """

    __slots__ = ("beat", "born", "doubtful", "draining", "due", "exited", "failed", "generation", "hung", "id", "pardon",
                 "ready", "signals", "silent", "slack", "slot", "spec", "started", "zygote")  # fmt: skip

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
        self.doubtful = self.due = self.hung = False
        self.beat = born
        self.silent: float | None = None

    def enter_phase(self) -> None:
        """Begin to count anew how long it has had."""
        self.pardon = self.slack = 0.0

    @property
    def service(self) -> str:
        """Whose it is."""
        return self.spec.name

    @property
    def asked(self) -> bool:
        """Whether the launcher told it to stop, for another reason than that it hangs."""
        return (commands.TERM in self.signals and not self.hung) or commands.QUIT in self.signals

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out, asked or not."""
        return self.draining is not None or bool(self.signals.keys() - {commands.HUP})

    @property
    def replaced_in_any_case(self) -> bool:
        """Whether its slot is free as soon as it stops of its own accord, however it ends."""
        return self.spec.restart.policy == "always"

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
        self.generation = 1  # the newest that was read
        self.sizes = {(spec.name, 1): spec.workers for spec in config.services}  # how many workers each is to have
        self.specs = {(spec.name, 1): spec for spec in config.services}
        self.owed: Counter[tuple[int, int]] = Counter()  # signals that operators send: to whom, and which
        self.done: set[tuple[str, int]] = set()  # slots that nobody follows in
        self.undone: set[tuple[str, int]] = set()  # those of them whose last worker did not end well
        self.given_up: set[str] = set()  # services that failed for good
        self.ends: dict[str, list[float]] = {}  # when something of a service failed
        self.begun: set[str] = set()
        self.awake = 0.0  # no silence before this instant counts
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
                self.begun.add(spec.name)
                self.retired.pop((spec.name, generation), None)
                self.closed.discard(spec.name)
                self.lives[id] = self.zygotes.setdefault(spec.name, {})[id] = Life(id, generation, spec, now)
            case commands.Spawn(id, zygote, slot):
                parent = self.lives[zygote]
                self.lives[id] = life = Life(id, parent.generation, parent.spec, now)
                life.slot, life.zygote = slot, zygote
                self.workers.setdefault(life.service, {})[id] = life
            case commands.Signal(id, number) if self.owed[id, number]:
                self.owed[id, number] -= 1
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
            case events.Recycle() | events.Health() | events.Seen():
                life = self.lives[event.id]
                if life.exited is None and life.slot is not None:
                    self._of_worker(life, event, now)
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
                    if life.ready is None:
                        life.ready = life.beat = now
                    if life.slot is None:
                        self._doubt({life.service})  # it may serve instead of an older generation
            case events.Failed():
                life.failed = life.failed or now
            case events.Draining():
                if life.slot is not None and not life.leaving:
                    if life.replaced_in_any_case:
                        self.waits.ended(life, now)
                        if life.ready is None:
                            self._ended(life, now)
                    life.enter_phase()
                    life.draining = now
            case events.Exited():
                in_time = life.signals.get(commands.KILL, now) < life.born + life.spec.start_timeout
                unwanted = life.started is None and life.doubtful and commands.KILL in life.signals and in_time
                counted = life.asked or unwanted or (life.draining is not None and life.replaced_in_any_case)
                if life.slot is None or not counted:
                    self._mark_done(life, event)
                    if not self._is_done(life, event):
                        self.waits.ended(life, now, retired=(life.service, life.generation) in self.retired)
                        self._ended(life, now)
                life.exited = now
                self._blame(life)
                del (self.zygotes if life.slot is None else self.workers)[life.service][life.id]
                key = life.service, life.generation
                if not self.populated(*key):
                    self.emptied[key] = now
                    if key in self.retired:
                        self._time_zygotes(*key)

    def _of_worker(self, life: Life, event: events.Recycle | events.Health | events.Seen, now: float) -> None:
        match event:
            case events.Recycle():
                life.due = life.due or life.serving
            case events.Health():
                if event.unhealthy and life.serving and not life.due:
                    life.due = True
                    self.waits.ended(life, now)
                    self._ended(life, now)
            case events.Seen():
                life.beat = max(life.beat, event.beat_at)
                silent = life.serving and max(life.beat, self.awake) + life.spec.hang_timeout <= now
                life.silent = (now if life.silent is None else life.silent) if silent else None

    def _ended(self, life: Life, now: float) -> None:
        self.ends.setdefault(life.service, []).append(now)

    def _mark_done(self, life: Life, event: events.Exited) -> None:
        ends = life.spec.restart.policy == "never" or self._is_done(life, event)
        if life.slot is not None and ends and all(o.slot != life.slot or o is life for o in self.living(life.service)):
            self.done.add((life.service, life.slot))
            if event.code != 0:
                self.undone.add((life.service, life.slot))

    def _is_done(self, life: Life, event: events.Exited) -> bool:
        return life.spec.restart.policy == "on-failure" and event.code == 0 and not life.hung and life.slot is not None

    def hangs(self, life: Life, now: float) -> None:
        """Write down that the supervisor gives a worker up."""
        life.hung, life.draining = True, now
        life.enter_phase()
        if life.replaced_in_any_case:
            self.waits.ended(life, now)
            self._ended(life, now)

    def fails(self, service: str) -> None:
        """Write down that the supervisor gives a service up."""
        self.given_up.add(service)
        self._abandon_roll(service)
        self._doubt({service})
        for life in self.living(service):
            if life.hung and commands.TERM not in life.signals:  # it is stopped with the others
                life.hung, life.draining = False, None

    def _abandon_roll(self, service: str) -> None:
        settled = self.settled.get(service)
        if settled is not None and service not in self.fresh:
            self.dropped |= {key for key in self.sizes if key[0] == service and key[1] > settled}

    def rest(self) -> None:
        """Write down which services are to begin anew: those that were stopped and are gone."""
        self.begun -= {s for s in self.begun if self.stops(s) and not (self.living(s) or self.zygotes.get(s))}

    def _time_zygotes(self, service: str, generation: int) -> None:
        """Begin to count how long a retired zygote takes."""
        for life in self.zygotes[service].values():
            if life.generation == generation:
                life.enter_phase()

    def _blame(self, life: Life) -> None:
        """Give up a generation that is being rolled out, once an import or a worker of it has failed."""
        unasked = not (life.asked or life.draining or life.doubtful or life.ready)
        running = life.service in self.configured and life.service not in self.stopped | self.fresh | self.given_up
        if unasked and running and self.settled.get(life.service, life.generation) != life.generation:
            self.dropped.add((life.service, life.generation))

    def _apply(self, config: Config, names: set[str | None]) -> None:
        if config.runtime_dir != self.runtime_dir:
            return
        read = {spec.name: spec for spec in config.services}
        self.generation += 1
        for name in {**self.configured, **read}:
            if None not in names and name not in names:
                continue
            self.forgive(name)
            self.ends.pop(name, None)
            running = name in self.configured and name not in self.stopped | self.given_up and name in self.begun
            (self.fresh.discard if running else self.fresh.add)(name)
            self.given_up.discard(name)
            if name in read:
                spec = self.configured[name] = read[name]
                if running and spec.reload == "signal" and spec == self.specs[name, self.current(name)]:
                    self.sizes[name, self.current(name)] = spec.workers
                else:
                    key = name, self.generation
                    self.sizes[key], self.specs[key] = spec.workers, spec
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
        elif isinstance(event, events.Scale):
            self._doubt(named)
            for name in named - self.stopped - self.given_up:
                for key in [key for key in self.sizes if key[0] == name]:
                    self.sizes[key] = event.workers
        elif isinstance(event, events.SignalWorkers):
            for life in self._addressed(event, named):
                self.owed[life.id, event.signal] += 1
        elif isinstance(event, events.Stop):
            for name in named - self.stopped:
                self._abandon_roll(name)
            self.given_up -= named
            self.hurried |= named if event.quick else set()
            self.stopping = event.service is None
            self.stopped |= named
            self._doubt(named)
        else:
            for name in sorted(named):
                if name in self.stopped | self.given_up:
                    self.waits.forgive_zygotes(name)
                self.forgive(name)
                self.ends.pop(name, None)
            self.stopped -= named
            self.given_up -= named
            self.hurried -= named

    def named(self, request: Request) -> set[str]:
        """Return the services that a request is about."""
        return {name for name in self.configured if request.service in {None, name}}

    def _addressed(self, request: events.SignalWorkers, named: set[str]) -> list[Life]:
        lives = [life for name in sorted(named) for life in self.living(name) if life.started is not None]
        if request.slot is None:
            return lives
        lives = [life for life in lives if life.slot == request.slot]
        return sorted(lives, key=lambda life: (life.serving, life.id))[-1:]

    def current(self, service: str) -> int:
        """Return the newest generation of a service that was not given up: the one that it is to run."""
        return max(number for name, number in self.sizes if name == service and (name, number) not in self.dropped)

    def slots(self, service: str, generation: int) -> set[int]:
        """Return the slots that are to have a worker of a generation."""
        return {slot for slot in range(self.sizes[service, generation]) if (service, slot) not in self.done}

    def holds(self, life: Life) -> bool:
        """Return whether a worker has its slot to itself, as far as that depends on it."""
        return not (life.asked or life.due) and (life.draining is None or not life.replaced_in_any_case)

    def rolled_back(self, service: str, to: int) -> None:
        """Write down that all after generation `to` was given up."""
        self.dropped |= {key for key in self.sizes if key[0] == service and key[1] > to}
        self.forgive(service)

    def forgive(self, service: str) -> None:
        """Forget the failures of its slots: it is about to run something else, or again."""
        self.waits.forgive(service)
        self.done = {key for key in self.done if key[0] != service}
        self.undone &= self.done
        self._doubt({service})

    def _doubt(self, services: set[str]) -> None:
        for service in services:
            for life in self.workers.get(service, {}).values():
                life.doubtful = True

    def stops(self, service: str) -> bool:
        """Return whether a service is to stop, or has."""
        return self.stopping or service in self.stopped | self.given_up or service not in self.configured

    def held(self, service: str) -> bool:
        """Return whether something that comes after a service is to stop and has not: that goes first."""
        others = {name for name, _ in self.sizes} - {service}
        return service not in self.hurried and any(
            self.stops(name)
            and service in self.specs[name, self.current(name)].after
            and (self.living(name) or self.zygotes.get(name))
            for name in others
        )

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
        if late > LATE:
            self.awake = now
        for group in (self.zygotes, self.workers):
            for lives in group.values():
                for life in lives.values():
                    life.silent = None if late > LATE else life.silent
                    life.slack += slept if late > LATE else late
                    begins = life.slot is None and self.emptied.get((life.service, life.generation)) == now
                    life.pardon += late if late > LATE and not begins else 0.0
