"""What operators and strangers do in a history: drawn from the seed, before the history begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core import commands, events
from forkd.core.spec import Config, RecycleSpec, RestartSpec, ServiceSpec
from tests.simulation.processes import BAD, GOOD, USR1, Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.world import World

NAMES = ("shop", "billing", "housekeeper")
HARMLESS = (USR1, *[commands.STACKS] * 6)
SIGNALS = (commands.HUP, commands.HUP, commands.TERM, commands.KILL)
STOP_DELAY = 1.0  # after a reload, the most


def draw_spec(rng: Random, name: str) -> ServiceSpec:
    """Return a service as someone may configure it."""
    pick = rng.choice
    return ServiceSpec(
        name=name,
        server="wsgi",
        app="shop.web:application",
        bind=("127.0.0.1:8080",),
        workers=pick((0, 1, 1, 2, 2, 3, 4)),
        surge=pick((1, 1, 2, 3)),
        reload=pick(("rolling", "rolling", "rolling", "signal", "restart")),
        start_timeout=pick((5.0, 30.0)),
        stop_timeout=pick((0.0, 1.0, 5.0, 30.0)),
        kill_timeout=pick((0.0, 1.0, 5.0)),
        hang_timeout=pick((0.0, 5.0, 30.0)),
        recycle=RecycleSpec(age=pick((0.0, 0.0, 20.0)), jitter=pick((0.0, 0.1, 1.0))),
        restart=RestartSpec(
            pick((0.1, 0.1, 1.0)),
            pick((0.5, 5.0, 30.0)),
            pick((1.0, 2.0, 2.0, 3.0)),
            pick((1.0, 10.0)),
            pick(("always", "always", "always", "on-failure", "never")),
            pick((0, 0, 0, 2)),
            pick((10.0, 60.0)),
        ),
    )


def _ordered(rng: Random, specs: list[ServiceSpec]) -> tuple[ServiceSpec, ...]:
    """Return the services, some after others that are there; a name comes only after those to its right in NAMES."""
    names = [spec.name for spec in specs]
    later = {spec.name: NAMES[NAMES.index(spec.name) + 1 :] for spec in specs}
    after = {name: tuple(o for o in later[name] if o in names and rng.random() < 0.4) for name in names}
    return tuple(spec._replace(after=after[spec.name]) for spec in specs)


def draw_config(rng: Random) -> Config:
    """Return a configuration of one to three services, at times of none."""
    names = rng.sample(NAMES, rng.choice((0, 1, 1, 1, 1, 1, 2, 2, 3)))
    return Config(runtime_dir="/run/forkd", services=_ordered(rng, [draw_spec(rng, name) for name in names]))


class Script:
    """Lets things happen to a World; each request has a ticket of its own, or 0 as a signal has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self._tickets = 0
        self._bad = self.rng.choice((0.2, 0.2, 0.2, 0.9))  # how much of what is deployed
        world.file = draw_config(self.rng)
        for name in NAMES:
            self._deploy(name, 0.1)

    def begin(self) -> float:
        """Let everything of the script happen in its time, at any instant and in storms; return how long it lasts."""
        acts, lasts = self._acts(), self.rng.choice((2.0, 10.0, 30.0, 90.0))
        ends = lasts
        for _ in range(self.rng.choice((0, 1, 2, 4, 8))):
            act = self.rng.choice(acts)
            start = self.rng.uniform(0.0, lasts)
            for _ in range(self.rng.choice((1, 1, 1, 2, 6))):
                self.world.after(start, act)
                ends = max(ends, start + STOP_DELAY)
                start += self.rng.choice((0.0, 0.01, 1.0))
        return ends

    def _acts(self) -> list[Callable[[], None]]:
        reload = [self.edit_and_reload, self.edit_and_reload, self.redeploy_and_reload, self.reload_one]
        service = [self.restart, self.restart_one, self.stop_one, self.scale, self.scale, self.signal, self.signal]
        rare = [self.stop_all] if self.rng.random() < 0.2 else []
        strange = [] if self.world.calm else [self.kill_something, self.drain_something]
        return [*reload, *(reload if self.world.calm else service), *service, *strange, *rare]

    def ask(
        self,
        kind: type[events.Reload | events.Restart | events.Stop | events.Scale | events.SignalWorkers],
        *args: object,
    ) -> int:
        """Let an operator ask for something; return its ticket, or 0 for a signal, which names no service."""
        self._tickets += 1
        by_signal = args[0] is None if args else self.rng.random() >= 0.7
        ticket = 0 if by_signal else self._tickets
        self.world.outbox.append(kind(ticket, *args))  # type: ignore[arg-type]
        return ticket

    def edit_and_reload(self) -> None:
        """Change the file: services come, go and change; at times it does not validate, or has another runtime_dir."""
        rng, world = self.rng, self.world
        world.valid = world.calm or rng.random() < 0.9
        specs = [draw_spec(rng, s.name) if rng.random() < 0.4 else s for s in world.file.services if rng.random() < 0.9]
        missing = [name for name in NAMES if name not in {spec.name for spec in specs}]
        specs += [draw_spec(rng, name) for name in missing if rng.random() < 0.2]
        where = "/run/elsewhere" if rng.random() < 0.05 and not world.calm else "/run/forkd"
        world.file = Config(runtime_dir=where, services=_ordered(rng, specs))
        self.ask(events.Reload)

    def redeploy_and_reload(self) -> None:
        """Put new code in place, at times bad code."""
        for name in NAMES:
            self._deploy(name, self._bad)
        self.ask(events.Reload)

    def _deploy(self, name: str, bad: float) -> None:
        code = Code(self.rng.choice(BAD), self.rng.choice((0, 0, 1, 2))) if self.rng.random() < bad else GOOD
        self.world.deploy(name, code)

    def reload_one(self) -> None:
        """Reload one service by name."""
        name = self._name()
        self._deploy(name, self._bad)
        self.ask(events.Reload, name)

    def restart(self) -> None:
        """Restart everything."""
        self.ask(events.Restart)

    def restart_one(self) -> None:
        """Restart one service."""
        self.ask(events.Restart, self._name())

    def scale(self) -> None:
        """Want another number of workers of a service, or some more or fewer, at times of the only one there is."""
        rng, relative = self.rng, self.rng.random() < 0.4
        name = None if rng.random() < 0.3 else self._name()
        self.ask(events.Scale, name, rng.choice((-2, -1, 1, 2) if relative else (0, 1, 2, 3, 5)), relative)

    def signal(self) -> None:
        """Send a signal to a service's workers, or to one."""
        number = self.rng.choice(HARMLESS if self.world.calm else (*HARMLESS, *SIGNALS))
        self.ask(events.SignalWorkers, self._name(), self.rng.choice((None, 0, 1)), number)

    def stop_one(self) -> None:
        """Stop one service, at times at once."""
        self.ask(events.Stop, self._name(), self.rng.random() < 0.3)

    def stop_all(self) -> None:
        """Stop the launcher, at times at once, at times right after a reload."""
        quick = self.rng.random() < 0.3
        if self.rng.random() < 0.5:
            self.ask(events.Reload)
        self.world.after(self.world.some(0.0, STOP_DELAY), lambda: self.ask(events.Stop, None, quick))

    def _name(self) -> str:
        return self.rng.choice((*NAMES, *NAMES, "nobody"))

    def kill_something(self) -> None:
        """Let a stranger kill a process."""
        alive = self.world.alive()
        if alive:
            self.rng.choice(alive).fall(None, 9)

    def drain_something(self) -> None:
        """Let a stranger send a TERM to a worker."""
        workers = [worker for worker in self.world.workers.values() if worker.serving]
        if workers:
            self.rng.choice(workers).drain_unasked()
