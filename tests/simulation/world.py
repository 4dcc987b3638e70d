"""The simulated machine: its processes, its configuration file, and the kernel port through which the loop sees it.

No clock, no process, no sleep: time is virtual, and every choice comes from the seed.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from forkd.core import commands, events
from forkd.core.spec import Config
from tests.simulation.faults import Faults
from tests.simulation.processes import GOOD, Code, Worker, Zygote
from tests.simulation.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.core.spec import ServiceSpec

LATE = 30.0  # how late a message can come, at most
REAPED = 0.001  # from a death to its news, the most
BUSY = 0.3  # how often the launcher is a little late, so that several things have happened


class Stuck(Exception):
    """The loop waits for nothing, and nothing will happen any more."""


class World:
    """What is the case, whatever the supervisor believes. `tell` is the only way it learns of it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.tally: Counter[str] = Counter()
        self.faults = Faults(self.rng, self.tally)
        self.calm = self.faults.calm
        self.healed = False
        self.timeline = Timeline(self.rng.uniform(0.0, 10_000.0))
        self.after: Callable[[float, Callable[[], object]], None] = self.timeline.after
        self.outbox: list[events.Event] = []
        self.zygotes: dict[int, Zygote] = {}
        self.workers: dict[int, Worker] = {}
        self.deployed: dict[str, Code] = {}
        self.codes: dict[tuple[str, int], Code] = {}
        self.file = Config(runtime_dir="/run/forkd")
        self.valid = True
        self.woken = False
        self.silence = False  # whether the last look found a heartbeat missing
        self._pids = 100

    def tell(self, event: events.Event) -> bool:
        """Let the launcher hear of it: once, unless the message is lost (return False), doubled or late."""
        hit, lost = self.faults.hit, type(event).__name__.lower() + " lost"
        if lost != "exited lost" and hit(lost):
            return False
        self.outbox.append(event)
        if hit("message doubled"):
            self.outbox.append(event)
        if hit("message late"):
            self.after(self.rng.uniform(0.0, LATE), lambda: self.outbox.append(event))
        return True

    def bury(self, exited: events.Exited) -> None:
        """Reap a process a little after its death; one that there never was is known to be dead at once."""
        if exited.code is exited.signal is None:
            self.tell(exited)
        else:
            self.after(self.some(0.0, REAPED), lambda: self.tell(exited))

    def bad_code(self, code: Code, kind: str) -> bool:
        """Tell whether code goes wrong in this way; counted if it does."""
        if code.kind != kind:
            return False
        self.tally["code: " + kind] += 1
        return True

    def next_pid(self) -> int:
        """Return a pid never used before."""
        self._pids += 1
        return self._pids

    def some(self, least: float, most: float) -> float:
        """Return a duration, mostly a short one."""
        share = 0.1 * self.rng.random() if self.rng.random() < 0.8 else self.rng.random()
        return least + (most - least) * share

    def patience(self) -> float:
        """How long a killed process takes to die: one that hangs in the operating system takes minutes."""
        return self.some(10.0, 300.0) if self.faults.hit("unkillable") else self.some(0.0, 0.01)

    def deploy(self, service: str, code: Code) -> None:
        """Put code in place; a generation keeps what its first zygote found."""
        self.deployed[service] = code

    def code_of(self, spec: ServiceSpec, generation: int) -> Code:
        """Return the code of a generation; once all is healed it is good."""
        if self.healed:
            return GOOD
        return self.codes.setdefault((spec.name, generation), self.deployed.get(spec.name, GOOD))

    def heal(self) -> None:
        """Nothing fails from here on but what already has; the launcher wakes up, so that the history can go on."""
        self.woken = True
        self.healed = True
        self.valid = True
        self.faults.heal()
        for zygote in self.zygotes.values():
            if zygote.code.kind != "import hangs":
                zygote.code = GOOD

    def alive(self) -> list[Zygote | Worker]:
        """Return every process there is, or will be."""
        return [p for group in (self.zygotes, self.workers) for p in group.values() if p.alive]


class SimKernel:
    """The kernel port over a World; `turn` is called before each wait, with the deadline."""

    def __init__(self, world: World, turn: Callable[[float | None], None]) -> None:
        self.world = world
        self._turn = turn
        self._reading = False

    def now(self) -> float:
        """Return virtual seconds."""
        return self.world.timeline.now

    def perform(self, command: commands.Command) -> list[events.Event]:
        """Do it; what is known at once is returned."""
        world = self.world
        match command:
            case commands.ReadConfig():
                delay = world.some(1.0, 29.0) if world.faults.hit("slow read") else world.some(0.02, 0.5)
                world.after(delay * world.rng.random(), self._read)
            case commands.StartZygote():
                zygote = Zygote(world, command, world.code_of(command.spec, command.generation))
                world.zygotes[command.id] = zygote
                zygote.start()
            case commands.Spawn():
                zygote = world.zygotes[command.zygote]
                world.workers[command.id] = worker = Worker(world, command, zygote)
                zygote.fork(worker)
            case commands.Signal():
                (world.workers.get(command.id) or world.zygotes[command.id]).signal(command.signal)
            case commands.Look(id):
                self._look(world.workers[id])  # also at one that is dead and not reaped yet: its scoreboard is there
            case commands.Retire():
                for zygote in world.zygotes.values():
                    if (zygote.spec.name, zygote.generation) == (command.service, command.generation) and zygote.alive:
                        zygote.retire()
        return self._collect()

    def _look(self, worker: Worker) -> None:
        world, seen = self.world, worker.look()
        world.outbox.append(seen)
        if seen.beat_at + worker.zygote.spec.hang_timeout <= world.timeline.now:
            world.silence = True
            if worker.alive and world.faults.hit("ends when found to hang"):
                world.after(
                    world.some(0.0, 0.1), world.rng.choice((worker.drain_unasked, lambda: worker.fall(None, 9)))
                )

    def _read(self) -> None:
        """Read the file as it stands now; the answer takes a little longer."""
        world = self.world
        if world.valid and not world.faults.hit("configuration refused"):
            answer: events.Event = events.ConfigRead(world.file)
        else:
            answer = events.ConfigRefused(("services.yaml:1:1: services.shop.workers: expected an integer",))
        world.after(world.some(0.001, 0.1), lambda: world.outbox.append(answer))

    def wait(self, deadline: float | None) -> list[events.Event]:
        """Let time pass until something happens or the deadline is there; at times too early, at times much later."""
        self._turn(deadline)
        world = self.world
        if not world.outbox:
            self._sleep(deadline)
            if world.rng.random() < BUSY:
                world.timeline.advance(world.timeline.now + world.some(0.0, 0.2))
        return self._collect()

    def _sleep(self, deadline: float | None) -> None:
        timeline, world = self.world.timeline, self.world
        silence, world.silence = world.silence, False
        next_ = min((when for when in (timeline.due(), deadline) if when is not None), default=timeline.now)
        if world.faults.hit("wakes early"):
            timeline.advance(timeline.now + (next_ - timeline.now) * world.rng.random())
        elif world.faults.hit("oversleeps"):
            timeline.advance(next_ + world.some(0.1, 60.0))
        elif world.faults.hit("machine sleeps") or (silence and world.faults.hit("machine sleeps between two looks")):
            timeline.freeze(world.some(10.0, 10_000.0))
        else:
            self._sleep_well(deadline)

    def _sleep_well(self, deadline: float | None) -> None:
        """Sleep until the deadline, or until something happens that the launcher hears of."""
        timeline, world = self.world.timeline, self.world
        world.woken = False
        while not (world.outbox or world.woken):
            due = timeline.due()
            if deadline is not None and (due is None or due > deadline):
                timeline.advance(deadline)
                return
            if due is None:
                raise Stuck
            timeline.advance(due)

    def _collect(self) -> list[events.Event]:
        events_, self.world.outbox = self.world.outbox, []
        return events_
