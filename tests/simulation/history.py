"""One history: trouble until a random instant, then healing until all is well, then the end; told by its seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.core import events, loop
from forkd.core.spec import RecycleSpec
from forkd.core.supervisor import Supervisor
from tests.simulation import recovery, reloads
from tests.simulation.script import Script
from tests.simulation.violation import Violation
from tests.simulation.watch import Watch
from tests.simulation.world import SimKernel, Stuck, World

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.watch import Entry

TURNS = 20_000  # more than any sound history takes
TURNS_AT_ONCE = 500  # more than any sound instant takes
HEALING = 5_000.0  # seconds in which everything must be well again
QUIET = 100.0  # seconds after which a launcher without trouble has no deadline any more


class Outcome(NamedTuple):
    """How a history went: the first violation, if any, and what has been exercised."""

    seed: int
    steps: int
    tally: Counter[str]
    violation: str | None
    trace: tuple[str, ...]


class History:
    """Drives a World through its phases while the loop runs over it."""

    def __init__(self, seed: int, on_entry: Callable[[Entry], None] | None = None) -> None:
        self.seed = seed
        self.world = World(seed)
        self.script = Script(self.world)
        config, now = self.world.file, self.world.timeline.now
        exit_on_failed = self.world.rng.random() < 0.3
        self.supervisor = Supervisor(config, now, exit_on_failed=exit_on_failed)
        self.watch = Watch(self.supervisor, config, self.world, exit_on_failed=exit_on_failed)
        if on_entry is not None:
            self.watch.on_entry = on_entry
        self.kernel = SimKernel(self.world, self._turn)
        self._phase = self._trouble
        self._turns = self._turns_at_once = 0
        self._turn_at = now
        self._healed_at = 0.0
        self._renewed = False
        self._deadline: float | None = None

    def run(self) -> Outcome:
        """Run to the end; a violation ends it early, and so does any exception of the supervisor."""
        self.world.after(self.script.begin(), self._heal)
        violation = None
        try:
            loop.run(self.watch, self.kernel, lambda news: None)  # type: ignore[arg-type]
            self._check_end()
        except Stuck:
            violation = f"the loop sleeps for ever: {self._missing()}"
        except Violation as error:
            now, step = self.world.timeline.now, self.watch.steps
            violation = f"{error} (step {step}, t={now:.3f})"
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the supervisor's
            violation = f"{type(error).__name__}: {error}"
        trace = tuple(str(entry) for entry in self.watch.trace)
        return Outcome(self.seed, self.watch.steps, self.world.tally, violation, trace)

    def _turn(self, deadline: float | None) -> None:
        now = self.world.timeline.now
        self._turns += 1
        self._turns_at_once = self._turns_at_once + 1 if now == self._turn_at else 0
        self._turn_at = now
        if self._turns > TURNS or self._turns_at_once > TURNS_AT_ONCE:
            raise Violation(f"the loop spins: {self._turns} turns")
        self._deadline = deadline
        self.watch.before_sleep(deadline, now)
        asked, self.watch.just_ended = self.watch.just_ended, None
        if asked is not None and isinstance(asked.request, events.Reload) and self._only_code_fails():
            reloads.check_ended(self.world, self.watch.ledger, self._shown(), asked)
        self._phase()

    def _trouble(self) -> None:
        """Let the script go on."""

    def _heal(self) -> None:
        self.world.heal()
        self._healed_at = self.world.timeline.now
        self._phase = self._healing
        if self.world.rng.random() < 0.7:
            services = tuple(spec._replace(recycle=RecycleSpec()) for spec in self.world.file.services)
            self.world.file = self.world.file._replace(runtime_dir="/run/forkd", services=services)
            self.script.ask(events.Reload)
            self._renewed = True
        if self.world.rng.random() < 0.3:
            self.script.ask(events.Restart)

    def _healing(self) -> None:
        trouble = self._missing()
        if trouble is None:
            if any(life.spec.recycle.age for life in self.watch.ledger.lives.now()):
                self._end()  # where workers come of age it is never quiet
            else:
                self._phase = self._quiet
                self.world.after(QUIET, self._is_quiet)
        elif self.world.timeline.now > self._healed_at + HEALING:
            raise Violation(f"not well {HEALING:.0f} s after the last fault: {trouble}")

    def _quiet(self) -> None:
        trouble = self._missing()
        if trouble is not None:
            raise Violation(f"well, and then without a fault no more: {trouble}")

    def _is_quiet(self) -> None:
        looks = any(life.spec.hang_timeout for life in self.watch.ledger.lives.now() if life.slot is not None)
        if self._deadline is not None and not looks:
            raise Violation(f"it still wants to wake up {QUIET:.0f} s after all was well")
        self._end()

    def _end(self) -> None:
        self._phase = self._trouble
        for _ in range(self.world.rng.choice((1, 1, 2))):
            self.script.ask(events.Stop, None, self.world.rng.random() < 0.3)

    def _only_code_fails(self) -> bool:
        return self.world.calm and not self.world.healed and not self.watch.ledger.wants.stopping

    def _shown(self) -> dict[str, dict[str, Any]]:
        return {service["name"]: service for service in self.watch.picture["services"]}

    def _missing(self) -> str | None:
        return recovery.missing(self.watch, self.world, renewed=self._renewed)

    def _check_end(self) -> None:
        ledger = self.watch.ledger
        if self.world.alive() or any(life.exited is None for life in ledger.lives.values()):
            raise Violation(f"done, and alive are {self.world.alive()}")
        if not ledger.wants.stopping:
            raise Violation("done without being told to stop")
        if self.supervisor.failed != self.watch.ended_by_itself:
            raise Violation(f"it has failed: {self.supervisor.failed}, but {self.watch.ended_by_itself} is true")
        if ledger.generations.keys() != ledger.retired.keys():
            raise Violation(f"not retired: {sorted(ledger.generations.keys() - ledger.retired.keys())}")
        if ledger.wants.tickets.keys() != self.watch.answers.keys():
            raise Violation(f"without an answer: {sorted(ledger.wants.tickets.keys() - self.watch.answers.keys())}")
        if not self.watch.told_of_every_end():
            raise Violation("an exit was not told")
