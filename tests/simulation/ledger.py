"""An independent record of what the supervisor was told and what it ordered; it judges nothing.

Kept apart from the World: the supervisor can only be blamed for what it could know.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from forkd.core import commands, events
from tests.simulation.ends import Ends
from tests.simulation.life import Life
from tests.simulation.lives import Lives
from tests.simulation.wants import Wants

if TYPE_CHECKING:
    from forkd.core.spec import Config, ServiceSpec
    from tests.simulation.wants import Request

LATE = 1.0  # a wake-up later than this must not be held against a process


class Ledger:
    """All lives, what operators want, how lives ended; and what has become of generations and services."""

    def __init__(self, config: Config) -> None:
        self.wants = Wants(config)
        self.ends = Ends()
        self.lives = Lives()
        self.generations: dict[tuple[str, int], ServiceSpec] = {}
        self.retired: dict[tuple[str, int], float] = {}
        self.closed: set[str] = set()  # services that were retired because they stop
        self.begun: set[str] = set()
        self.emptied: dict[tuple[str, int], float] = {}  # when the last worker of a generation died
        self.newborn: set[int] = set()  # who has announced itself since the last turn
        self.doubted: events.Exited | None = None  # the last end, if only the supervisor knows whether it asked for it
        self.owed: Counter[tuple[int, int]] = Counter()  # signals that operators send: to whom, and which
        self.awake = 0.0  # no silence before this instant counts

    def order(self, command: commands.Command, now: float) -> None:
        """Write down a command that is about to be performed."""
        match command:
            case commands.ReadConfig():
                self.wants.reading, self.wants.asked_to_read = self.wants.asked_to_read, []
            case commands.StartZygote(id, generation, spec):
                self.generations[spec.name, generation] = spec
                self.begun.add(spec.name)
                self.retired.pop((spec.name, generation), None)
                self.closed.discard(spec.name)
                self.lives.begin(Life(id, generation, spec, now))
            case commands.Spawn(id, zygote, slot):
                self.lives.begin(Life.of_worker(id, self.lives[zygote], slot, now))
            case commands.Signal(id, number) if self.owed[id, number]:
                self.owed[id, number] -= 1
                if number == commands.STACKS:
                    self.lives[id].asked_for_stacks(now)
            case commands.Signal(id, commands.DUMP):
                self.lives[id].dumps(now)
            case commands.Look(id) if self.lives[id].shows_what_it_dumped(now):
                self.lives[id].shows_stacks()
            case commands.Signal(id, number):
                self.lives[id].signalled(number, now)
                if number == commands.STACKS:
                    self.lives[id].leaves(now)
            case commands.Retire(service, generation):
                self.retired[service, generation] = now
                if self.wants.stops(service):
                    self.closed.add(service)
                self._time_zygotes(service, generation)

    def planned(self) -> None:
        """Write down, after all commands of a turn, what is gone: if it was stopped it begins anew."""
        self.begun -= {name for name in self.begun if self.wants.stops(name) and not self.lives.of(name)}
        self.newborn.clear()
        for life in self.lives.now():
            if life.draining is not None and self.wants.stops(life.service) and not self.held(life.service):
                life.unwanted = True

    def tell(self, event: events.Event, now: float) -> None:
        """Write down an event that the supervisor is about to observe."""
        match event:
            case events.ConfigRead() | events.ConfigRefused():
                reading, self.wants.reading = self.wants.reading, None
                if isinstance(event, events.ConfigRead) and reading is not None and not self.wants.stopping:
                    self.wants.read_at = now
                    self._apply(event.config, {request.service for request in reading})
            case events.Reload() | events.Restart() | events.Stop() | events.Scale() | events.SignalWorkers():
                self.wants.hear(event, now)
                self._requested(event)
            case _:
                life = self.lives[event.id]
                if life.exited is None:  # else it comes late
                    self._of_life(life, event, now)

    def _of_life(self, life: Life, fact: events.Fact, now: float) -> None:
        match fact:
            case events.Started():
                if life.started is None:
                    life.started = now
                    self.newborn.add(life.id)
            case events.Ready():
                if life.started is not None and not life.leaving:
                    self._ready(life, now)
            case events.Failed():
                life.failed = True
            case events.Exited():
                self._exited(life, fact, now)
            case _:
                if life.slot is not None:
                    self._of_worker(life, fact, now)

    def _ready(self, life: Life, now: float) -> None:
        if life.ready is None:
            life.ready = life.beat = now
        if life.slot is None:
            self._doubt({life.service})  # it may serve instead of an older generation

    def _of_worker(self, life: Life, fact: events.Fact, now: float) -> None:
        match fact:
            case events.Draining():
                if not self.in_doubt(life):
                    self.drains(life, now)
            case events.Recycle():
                life.due = life.due or life.serving
            case events.Health():
                if fact.unhealthy and life.serving and not life.due:
                    life.due = True
                    self.ends.fails(life, now)
            case events.Seen():
                life.seen(fact.beat_at, self.awake, now)
                if fact.stacks:
                    life.shows_stacks()

    def drains(self, life: Life, now: float) -> None:
        """Write down that a worker stops of its own accord, as it said or the supervisor tells."""
        if life.leaving:
            return
        if life.followed_in_any_case and not life.hung:
            self.ends.waits.ended(life, now)
            if life.ready is None:
                self.ends.counts(life, now)
        life.leaves(now)

    def _exited(self, life: Life, end: events.Exited, now: float) -> None:
        key = life.service, life.generation
        life.ends(end, now)
        gone = life.hung or life.draining is not None  # and counted already, where it is followed in any case
        self.doubted = end if self.in_doubt(life) else None
        counted = life.asked or self.doubted is not None or (gone and life.followed_in_any_case)
        blamed = not life.done and self._blame(life)
        if life.slot is None or not counted:
            others = self.lives.workers(life.service)
            self.ends.exits(life, end, others, now, retired=key in self.retired, blamed=blamed)
        self.lives.end(life)
        if not self.lives.populated(*key):
            self.emptied[key] = now
            if key in self.retired:
                self._time_zygotes(*key)

    def in_doubt(self, life: Life) -> bool:
        """Return whether the launcher may want a worker no more without having told it: it is not born, or killed."""
        unborn = life.started is None or (life.id in self.newborn and life.ready is None)
        unheard = unborn or life.signals.keys() & {commands.ABRT, commands.KILL}
        return life.slot is not None and life.doubtful and life.draining is None and bool(unheard)

    def expected(self, life: Life) -> bool:
        """Return whether an end was asked for by the launcher, or at least by somebody, or was that of a job."""
        if life.slot is None:
            return (life.service, life.generation) in self.retired
        return life.done or life.asked or (life.draining is not None and not life.hung)

    def unasked(self, life: Life, end: events.Exited, now: float) -> None:
        """Write down of an end which was in doubt that the launcher had not asked for it."""
        self.ends.exits(life, end, self.lives.workers(life.service), now, retired=False, blamed=False)

    def _blame(self, life: Life) -> bool:
        """Give up a generation that is being rolled out, once an import or a worker of it has failed."""
        wants = self.wants
        unasked = not (life.asked or life.draining or life.doubtful or life.ready)
        running = life.service not in wants.fresh and not wants.stops(life.service)
        blamed = unasked and running and wants.settled.get(life.service, life.generation) != life.generation
        if blamed:
            wants.dropped.add((life.service, life.generation))
        return blamed

    def hangs(self, life: Life, now: float) -> None:
        """Write down that the supervisor gives a worker up."""
        life.hung = True
        if life.followed_in_any_case:
            self.ends.fails(life, now)

    def fails(self, service: str) -> None:
        """Write down that the supervisor gives a service up."""
        self.wants.given_up.add(service)
        self.wants.abandon_roll(service)
        self._doubt({service})

    def ends_by_itself(self) -> None:
        """Write down that the supervisor stops everything, since something has failed for good."""
        self.wants.stopping = True
        self._stop(set(self.wants.configured), quick=False)

    def rolled_back(self, service: str, to: int) -> None:
        """Write down that all after generation `to` was given up."""
        self.wants.drop_after(service, to)
        self.ends.forgive(service)
        self._doubt({service})

    def _time_zygotes(self, service: str, generation: int) -> None:
        """Begin to count how long a retired zygote takes."""
        for life in self.lives.zygotes(service):
            if life.generation == generation:
                life.enter_phase()

    def _apply(self, config: Config, names: set[str | None]) -> None:
        wants = self.wants
        if config.runtime_dir != wants.runtime_dir:
            return
        read = {spec.name: spec for spec in config.services}
        wants.generation += 1
        for name in {**wants.configured, **read}:
            if None not in names and name not in names:
                continue
            self.ends.forget(name)
            self._doubt({name})
            running = not wants.stops(name) and name in self.begun
            (wants.fresh.discard if running else wants.fresh.add)(name)
            wants.given_up.discard(name)
            if name in read:
                wants.read(read[name], running=running)
            else:
                wants.remove(name)

    def _requested(self, request: Request) -> None:
        wants, named = self.wants, self.wants.named(request)
        match request:
            case _ if wants.stopping:
                if isinstance(request, events.Stop) and request.service is None:
                    wants.hurried |= named
            case events.Reload():
                wants.asked_to_read.append(request)
            case events.Scale():
                self._scale(request)
            case events.SignalWorkers():
                self.owed.update((life.id, request.signal) for life in self._addressed(request, named))
            case events.Stop():
                wants.stopping = request.service is None
                self._stop(named, quick=request.quick)
            case events.Restart():
                for name in sorted(named):
                    if wants.stops(name):
                        self.ends.waits.forgive_zygotes(name)
                    self.ends.forget(name)
                wants.start(named)
                self._doubt(named)

    def _stop(self, names: set[str], *, quick: bool) -> None:
        self.wants.stop(names, quick=quick)
        self._doubt(names)

    def _scale(self, request: events.Scale) -> None:
        """Write down a new size, unless it is not known of which service, or that one does not run."""
        there = self.wants.named(request)
        if len(there) == 1 and not self.wants.stops(name := there.pop()):
            self.wants.scale(request, name)
            self._doubt({name})

    def _addressed(self, request: events.SignalWorkers, named: set[str]) -> list[Life]:
        lives = [life for name in sorted(named) for life in self.lives.workers(name) if life.started is not None]
        if request.slot is None:
            return lives
        lives = [life for life in lives if life.slot == request.slot]
        return sorted(lives, key=lambda life: (life.serving, life.id))[-1:]

    def _doubt(self, services: set[str]) -> None:
        for service in services:
            for life in self.lives.workers(service):
                life.doubtful = True

    def slots(self, service: str, generation: int) -> set[int]:
        """Return the slots that are to have a worker of a generation."""
        done = self.ends.done
        return {slot for slot in range(self.wants.sizes[service, generation]) if (service, slot) not in done}

    def held(self, service: str) -> bool:
        """Return whether something that comes after a service is to stop and has not: that goes first."""
        wants = self.wants
        return service not in wants.hurried and any(
            name != service and wants.stops(name) and service in wants.current_spec(name).after and self.lives.of(name)
            for name in {name for name, _ in wants.sizes}
        )

    def stood_still(self, late: float, slept: float, now: float) -> None:
        """Write down that the launcher slept for `slept` seconds and woke up `late` seconds after its deadline.

        A long delay is given back to all that is timed: at least the delay, at most the whole sleep. Not to a zygote
        whose time begins now, with the death of its last worker.
        """
        if long := late > LATE:
            self.awake = now
        for life in self.lives.now():
            life.slack += slept if long else late
            if life.stacks_by is not None and long:
                life.stacks_by += slept
            if long:
                begins = life.slot is None and self.emptied.get((life.service, life.generation)) == now
                life.silent = None
                life.pardon += 0.0 if begins else late
