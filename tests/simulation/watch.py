"""Stands between the loop and the supervisor: writes down all that passes, and checks every invariant at every step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.core.spec import Config, ServiceSpec
from forkd.core.state import News
from forkd.core.vigil import CONFIRM
from tests.simulation import orders, turns
from tests.simulation.ledger import Ledger
from tests.simulation.violation import EPSILON, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.supervisor import Supervisor
    from tests.simulation.wants import Asked
    from tests.simulation.world import World

NEWS = {
    "config_refused", "draining", "ended", "exited", "failed", "hung", "import_failed", "imported", "ready",
    "recycling", "refused", "reload_ended", "reload_started", "rolled", "rolled_back", "scaled", "service_failed", "spawned",
    "stacks", "stopping", "unhealthy", "waiting", "zygote_started",
}  # fmt: skip
ONCE = {"spawned", "zygote_started", "imported", "ready", "draining", "exited", "hung", "recycling", "unhealthy"}
TOLD = (
    "workers", "surge", "reload", "start_timeout", "stop_timeout", "kill_timeout", "hang_timeout", "after", "restart",
    "recycle",
)  # fmt: skip
KEPT = 40


class Entry(NamedTuple):
    """One thing that passed between loop and supervisor."""

    at: float
    kind: str
    what: object

    def __str__(self) -> str:
        return f"{self.at:12.3f}  {self.kind:8} {_brief(self.what)}"


class Watch:
    """Has the interface of a Supervisor, and passes everything on to one."""

    def __init__(self, supervisor: Supervisor, config: Config, world: World, *, exit_on_failed: bool) -> None:
        self._supervisor = supervisor
        self._world = world
        self._exit_on_failed = exit_on_failed
        self.ended_by_itself = False
        self.ledger = Ledger(config)
        self.trace: deque[Entry] = deque(maxlen=KEPT)
        self.on_entry: Callable[[Entry], None] = self.trace.append
        self.steps = 0
        self.answers: dict[int, bool] = {}
        self.just_ended: Asked | None = None  # a request that no other one has followed, since the last turn
        self._news: list[News] = []
        self._told: set[tuple[str, int | None]] = set()
        self._observed = True
        self.picture: dict[str, Any] = {}  # the snapshot of the last turn
        self._deadline: float | None = None
        self._slept_at = 0.0

    @property
    def done(self) -> bool:
        """Whether the supervisor is done."""
        return self._supervisor.done

    def observe(self, event: Event, now: float) -> None:
        """Pass an event on."""
        self.steps += 1
        self.on_entry(Entry(now, "event", event))
        self._world.tally["event: " + type(event).__name__] += 1
        self._observed = True
        self.ledger.tell(event, now)
        self._supervisor.observe(event, now)
        self._drain_news()

    def plan(self, now: float) -> list[Command]:
        """Pass the plan on, each command judged; a second plan must be empty."""
        if self._deadline is not None and now > self._deadline:
            self.ledger.stood_still(now - self._deadline, now - self._slept_at, now)
        if self._exit_on_failed and self.ledger.wants.given_up and not self.ledger.wants.stopping:
            self.ended_by_itself = True
            self._world.tally["ended by itself"] += 1
            self.ledger.ends_by_itself()
        planned = self._supervisor.plan(now)
        again = self._supervisor.plan(now)
        for command in planned:
            self.steps += 1
            self.on_entry(Entry(now, "command", command))
            self._world.tally["command: " + type(command).__name__] += 1
            orders.judge(self.ledger, command, now)
            self.ledger.order(command, now)
        self.ledger.planned()
        self._drain_news()
        if again:
            raise Violation(f"planned twice, it still wants {again}")
        self._observed = False
        return planned

    def deadline(self) -> float | None:
        """Pass the deadline on."""
        return self._supervisor.deadline()

    def before_sleep(self, deadline: float | None, now: float) -> None:
        """Check what must hold now, unless something has just happened and the next plan is due at once."""
        self._deadline, self._slept_at = deadline, now
        if self._observed:
            if deadline is None or deadline > now:
                raise Violation(f"something happened and the next plan is at {deadline}")
            self.picture = self._supervisor.snapshot(now)
            turns.check_settled(self.ledger, self.picture)
            return
        turns.check_sleep(self.ledger, deadline, now)
        self.picture = self._supervisor.snapshot(now)
        turns.check_snapshot(self.ledger, self.picture, now, deadline)
        if self.steps % 16 == 0:
            turns.check_json(self.picture)

    def take_news(self) -> list[News]:
        """Pass the news on, each checked."""
        self._drain_news()
        news, self._news = self._news, []
        return news

    def _drain_news(self) -> None:
        for item in self._supervisor.take_news():
            self._news.append(item)
            self.on_entry(Entry(self._world.timeline.now, "news", item))
            self._world.tally["news: " + item.kind] += 1
            self._check_news(item)

    def _check_news(self, news: News) -> None:
        if news.kind not in NEWS:
            raise Violation(f"news of an unknown kind: {news}")
        if news.kind in ONCE:
            if (news.kind, news.id) in self._told:
                raise Violation(f"told twice: {news}")
            self._told.add((news.kind, news.id))
        if news.kind == "exited":
            self._exited(news)
        elif news.kind == "ended" and news.ticket:
            self._ended(news)
        elif news.kind == "rolled_back":
            assert news.service is not None
            assert news.generation is not None
            if news.generation != self.ledger.wants.settled.get(news.service, news.generation):
                raise Violation(f"rolled back to what it did not run before: {news}")
            self.ledger.rolled_back(news.service, news.generation)
        elif news.kind == "rolled":
            self._rolled(news)
        elif news.kind == "hung":
            self._hung(news)
        elif news.kind == "recycling":
            self._recycling(news)
        elif news.kind == "service_failed":
            self._given_up(news)
        elif news.kind == "draining":
            assert news.id is not None
            self.ledger.drains(self.ledger.lives[news.id], self._world.timeline.now)

    def _ended(self, news: News) -> None:
        assert news.ticket is not None
        if news.ticket not in self.ledger.wants.tickets:
            raise Violation(f"nobody asked: {news}")
        if news.ticket in self.answers:
            raise Violation(f"answered twice: {news}")
        if news.ok is None or news.ok == bool(news.text):
            raise Violation(f"neither well nor a reason: {news}")
        self.answers[news.ticket] = news.ok
        asked = self.ledger.wants.tickets[news.ticket]
        if asked is self.ledger.wants.last_request:
            self.just_ended = asked
            if news.ok:
                turns.check_done(self.ledger, asked)

    def _rolled(self, news: News) -> None:
        assert news.service is not None
        assert news.generation is not None
        self.ledger.wants.rolled.add((news.service, news.generation))
        lives = self.ledger.lives.workers(news.service)
        serving = {w.slot for w in lives if w.serving}
        slots = self.ledger.slots(news.service, news.generation)
        if not serving.issuperset(slots) or {w.generation for w in lives} - {news.generation}:
            raise Violation(f"rolled with slots {serving} of {slots}: {news}")

    def _exited(self, news: News) -> None:
        """An end was asked for or not, as told; where that is in doubt only this tells it."""
        assert news.id is not None
        life = self.ledger.lives[news.id]
        if not news.text:
            raise Violation(f"an exit without a reason: {news}")
        if self.ledger.doubted is not None:
            if not news.ok:
                self.ledger.unasked(life, self.ledger.doubted, self._world.timeline.now)
        elif not life.forced and news.ok != self.ledger.expected(life):
            raise Violation(f"that is not how it was: {news}")

    def _hung(self, news: News) -> None:
        assert news.id is not None
        now, life = self._world.timeline.now, self.ledger.lives[news.id]
        if self._world.workers[news.id].hung_at is None:
            raise Violation(f"it beats: {news}")
        if now < max(life.beat, self.ledger.awake) + life.spec.hang_timeout - EPSILON:
            raise Violation(f"it was not silent for long enough: {news}")
        if life.silent is None or now < life.silent + CONFIRM - EPSILON:
            raise Violation(f"nobody looked a second time: {news}")
        self.ledger.hangs(life, now)

    def _recycling(self, news: News) -> None:
        assert news.id is not None
        life = self.ledger.lives[news.id]
        age = self._world.timeline.now - life.born + EPSILON
        if not life.due and not (
            life.spec.recycle.age and age >= life.spec.recycle.age * (1 - life.spec.recycle.jitter)
        ):
            raise Violation(f"neither old nor due: {news}")
        life.due = True

    def _given_up(self, news: News) -> None:
        assert news.service is not None
        spec = self.ledger.wants.current_spec(news.service).restart
        failures = self.ledger.ends.failures(news.service, self._world.timeline.now - spec.window)
        if not 0 < spec.max_restarts < failures:
            raise Violation(f"given up after {failures} failures: {news}")
        self.ledger.fails(news.service)

    def told_of_every_end(self) -> bool:
        """Whether each incarnation's exit was told."""
        return all(("exited", id) in self._told for id in self.ledger.lives)


def _brief(what: object) -> str:
    """Show of specs and news only what makes a difference here."""
    if isinstance(what, News):
        return " ".join(
            [what.kind, *(f"{k}={v!r}" for k, v in zip(what._fields[1:], what[1:], strict=True) if v is not None)]
        )
    if isinstance(what, ServiceSpec):
        return f"{what.name}({', '.join(f'{field}={getattr(what, field)!r}' for field in TOLD)})"
    if isinstance(what, Config):
        return f"Config({what.runtime_dir}: {'; '.join(map(_brief, what.services))})"
    if isinstance(what, tuple) and hasattr(what, "_fields"):
        return f"{type(what).__name__}({', '.join(map(_brief, what))})"
    return str(what)
