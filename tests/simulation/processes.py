"""Simulated zygotes and workers: what each does in its life, and what it tells of it. They know no supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkd.core import commands, events

if TYPE_CHECKING:
    from tests.simulation.world import World


class Code(NamedTuple):
    """What is deployed for a service: `kind` says how it goes wrong, each time and from `slot` upwards."""

    kind: str = "good"
    slot: int = 0


GOOD = Code()
AWAKE = 0.5  # seconds after which what was thawed has given a sign of life
USR1 = 10
BAD = ("import fails", "import hangs", "dies in import", "fails at start", "dies at start", "never ready")


class Zygote:
    """It forks workers while it lives; retired, it ends after the last of them."""

    def __init__(self, world: World, command: commands.StartZygote, code: Code) -> None:
        self.world, self.code = world, code
        self.id, self.generation, self.spec = command.id, command.generation, command.spec
        self.pid = 0
        self.alive = True
        self.forking: list[Worker] = []
        self.wards: set[int] = set()
        self.retiring = False

    def start(self) -> None:
        """Be executed; import."""
        world = self.world
        if world.faults.hit("exec fails"):
            world.tell(events.Failed(self.id, "cannot execute"))
            self._end(None, None)
            return
        self.pid = world.next_pid()
        world.tell(events.Started(self.id, self.pid))
        world.after(world.some(0.01, 3.0), self._import)
        if world.faults.hit("zygote dies"):
            world.after(world.some(0.01, 60.0), lambda: self.fall(None, 9))

    def _import(self) -> None:
        world, faults = self.world, self.world.faults
        if not self.alive or self._goes("import hangs"):
            return
        if self._goes("import fails"):
            world.tell(events.Failed(self.id, "KeyError: 'DSN'", "Traceback …"))
            self._end(1, None)
        elif self._goes("dies in import"):
            self._end(None, 11)
        elif not faults.hit("ready zygote lost"):
            world.tell(events.Ready(self.id))

    def _goes(self, kind: str) -> bool:
        return self.world.bad_code(self.code, kind) or self.world.faults.hit(kind)

    def fork(self, worker: Worker) -> None:
        """Take an order to fork; a dead zygote's channel loses it."""
        if not self.alive:
            worker.lost()
            return
        self.forking.append(worker)
        self.world.after(self.world.some(0.001, 0.05), lambda: self._forked(worker))

    def _forked(self, worker: Worker) -> None:
        if worker in self.forking:
            self.forking.remove(worker)
            self.wards.add(worker.id)
            worker.born()

    def bury(self, worker: Worker) -> None:
        """Look after a worker no more, which is dead."""
        self.wards.discard(worker.id)
        self._leave()

    def signal(self, number: int) -> None:
        """Heed only what kills."""
        if self.alive and number in (commands.KILL, commands.ABRT, commands.QUIT):
            self.world.after(self.world.patience() if number == commands.KILL else 0.0, lambda: self._end(None, number))

    def fall(self, code: int | None, signal: int | None) -> None:
        """Die of a fault, unless all are healed by now."""
        if self.alive and not self.world.healed:
            self.world.tally["fault: zygote died"] += 1
            self._end(code, signal)

    def retire(self) -> None:
        """Exit once there is no worker left, as a zygote does that is not stuck."""
        self.retiring = not (self.code.kind == "import hangs" or self.world.faults.hit("zygote ignores its end"))
        self._leave()

    def _leave(self) -> None:
        if self.alive and self.retiring and not (self.wards or self.forking):
            self.world.after(self.world.some(0.001, 0.1), lambda: self._end(0, None))

    def _end(self, code: int | None, signal: int | None) -> None:
        if not self.alive:
            return
        self.alive = False
        self.world.bury(events.Exited(self.id, code, signal))
        for worker in self.forking:
            worker.lost()
        self.forking.clear()


class Worker:
    """One life: ordered, born, serving, draining, dead. It announces itself by Started or is never known."""

    def __init__(self, world: World, command: commands.Spawn, zygote: Zygote) -> None:
        self.world, self.zygote = world, zygote
        self.id, self.slot = command.id, command.slot
        self.pid = 0
        self.alive = True
        self.serving = self.draining = False
        self.hung_at: float | None = None
        self._last_beat: float | None = None  # of one that is dead
        self._dumped = ""  # stacks that nobody has seen
        self.pending: set[int] = set()
        hit = world.faults.hit
        self.deaf = frozenset(number for number, kind in _DEAF.items() if hit(kind))

    def born(self) -> None:
        """Be forked, announce itself and start serving, as far as that goes."""
        world, hit = self.world, self.world.faults.hit
        if hit("fork fails"):
            world.tell(events.Failed(self.id, "fork: out of memory"))
            self.lost()
        elif not hit("never announces itself"):
            self.pid = world.next_pid()
            world.tell(events.Started(self.id, self.pid))
            world.after(world.some(0.005, 2.0), self._start)

    def _start(self) -> None:
        if not self.alive or self.draining or self._goes("never ready"):
            return
        if self._goes("fails at start"):
            self.world.tell(events.Failed(self.id, "OSError: no route", "Traceback …"))
            self.die(1, None)
        elif self._goes("dies at start"):
            self.die(None, 11)
        else:
            self._serve()

    def _goes(self, kind: str) -> bool:
        code = self.zygote.code
        bad = self.slot >= code.slot and self.world.bad_code(code, kind)
        return bad or self.world.faults.hit(kind)

    def _serve(self) -> None:
        world, hit = self.world, self.world.faults.hit
        self.serving = True
        world.tell(events.Ready(self.id))
        if hit("dies"):
            world.after(world.some(0.01, 40.0), lambda: self.fall(None, world.rng.choice((9, 11))))
        if hit("exits unasked"):
            world.after(world.some(0.01, 40.0), lambda: self.fall(world.rng.choice((0, 1, 3)), None))
        if hit("hangs"):
            world.after(world.some(0.01, 40.0), self.hang)
        if hit("recycles"):
            world.after(world.some(0.01, 40.0), lambda: self.say(events.Recycle(self.id, "served 10,000 requests")))
        if hit("fails its healthcheck"):
            for failures in (1, 2, 3):
                check = events.Health(self.id, failures, failures == 3, "500 Internal Server Error")
                world.after(world.some(0.01, 40.0), lambda check=check: self.say(check))  # type: ignore[misc]
        if hit("drains unasked"):
            world.after(world.some(0.01, 40.0), self.drain_unasked)

    def fall(self, code: int | None, signal: int | None) -> None:
        """Die of a fault, unless all are healed by now."""
        if self.alive and not self.world.healed:
            self.world.tally["fault: worker died"] += 1
            self.die(code, signal)

    def hang(self) -> None:
        """Give no sign of life any more, and heed no TERM and no QUIT; it may come back."""
        if self.serving and not self.world.healed:
            self.world.tally["fault: worker hung"] += 1
            self.hung_at = self.beat_at()
            if self.world.rng.random() < 0.3:
                self.world.after(self.world.some(1.0, 60.0), self._come_back)

    def _come_back(self) -> None:
        self.hung_at = None
        if commands.TERM in self.pending:
            self._drain()

    def beat_at(self) -> float:
        """When it gave its last sign of life: at most a second ago, but for one that hangs, or has just been thawed."""
        if self._last_beat is not None:
            return self._last_beat
        if self.hung_at is not None:
            return self.hung_at
        timeline = self.world.timeline
        just_thawed = timeline.now - timeline.thawed_at < AWAKE
        return (timeline.froze_at if just_thawed else timeline.now) - self.id % 7 / 10

    def look(self) -> events.Seen:
        """Return what there is to see of it, dead or alive."""
        dumped, self._dumped = self._dumped, ""
        return events.Seen(self.id, self.beat_at(), dumped)

    def say(self, event: events.Event) -> None:
        """Tell something about a worker that serves."""
        if self.serving and not self.world.healed:
            self.world.tell(event)

    def drain_unasked(self) -> None:
        """Get a TERM from a stranger."""
        if self.serving and not self.draining and not self.world.healed:
            self.world.tally["fault: worker drained"] += 1
            self._drain()

    def signal(self, number: int) -> None:
        """Take a signal from the launcher; one to a worker without a pid goes nowhere, but KILL ends it."""
        if number == commands.KILL:
            self._killed()
        elif not self.alive or not self.pid:
            return
        elif number in {commands.STACKS, USR1}:
            if self.hung_at is None and not self.world.faults.hit("shows no stacks"):
                self.say(events.Seen(self.id, self.beat_at(), "File …"))
        elif number == commands.DUMP:
            self.world.tally["stacks dumped"] += 1
            self._dumped = "File …"
        elif self.hung_at is not None and number != commands.ABRT:
            self.pending.add(number)
        elif number in self.deaf:
            self.world.tally["fault: signal ignored"] += 1
        elif number == commands.TERM:
            self._drain()
        elif number == commands.ABRT:
            self.world.after(self.world.some(0.001, 0.5), lambda: self.die(None, commands.ABRT))
        elif number == commands.QUIT:
            self.world.after(self.world.some(0.001, 0.5), lambda: self.die(0, None))
        elif self.world.faults.hit("dies of HUP"):
            self.world.after(self.world.some(0.001, 0.5), lambda: self.die(1, None))

    def _killed(self) -> None:
        self.serving = False
        if self.pid:
            self.world.after(self.world.patience(), lambda: self.die(None, commands.KILL))
        elif self in self.zygote.forking:
            self.zygote.forking.remove(self)
            self.lost()
        else:
            self.lost()

    def _drain(self) -> None:
        world, hit = self.world, self.world.faults.hit
        if self.draining:
            return
        served, self.draining, self.serving = self.serving, True, False
        if not served and hit("ready after TERM"):
            world.tell(events.Ready(self.id))
        known = world.tell(events.Draining(self.id))
        if not (known and hit("endless drain")):  # nobody could ever know of the other kind
            longest = 40.0 if hit("slow drain") else 0.5
            world.after(world.some(0.001, longest), lambda: self.die(0, None))

    def lost(self) -> None:
        """End where nobody can know how: no process, or none that was ever announced."""
        self.die(None, None)

    def die(self, code: int | None, signal: int | None) -> None:
        """Be dead; the launcher hears of it."""
        if not self.alive:
            return
        self._last_beat = self.beat_at()
        self.alive = self.serving = False
        self.world.bury(events.Exited(self.id, code, signal))
        self.zygote.bury(self)


_DEAF = {commands.TERM: "ignores TERM", commands.QUIT: "ignores QUIT", commands.ABRT: "ignores ABRT"}
