"""The object that decides: it is told what happened and when, and says what to do. It has no I/O and no clock.

`rules` has the rules, `facts` and `requests` write down what happened and what is wanted, `state`
is the record. Level-triggered: a plan compares what is wanted with what is, so an event that is
lost, doubled or late cannot wedge it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forkd.core import facts, requests, rules, snapshot
from forkd.core.commands import ReadConfig
from forkd.core.events import Request
from forkd.core.service import REMOVED, RUNNING
from forkd.core.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.spec import Config
    from forkd.core.state import News

# A turn that comes this many seconds after its deadline means that the machine, or the launcher, stood
# still: whatever ran did so too, and gets back all the time since the last turn.
LATE = 1.0


class Supervisor:
    """Brings the services of a configuration from what they are to what is wanted.

    All instants are seconds of one monotonic clock, passed in.
    """

    def __init__(self, config: Config, now: float, *, exit_on_failed: bool = False) -> None:
        """With `exit_on_failed` it stops everything once a service has failed for good."""
        self._state = State(config, now)
        self._exit_on_failed = exit_on_failed
        self._failed = False
        self._planned_at = now
        self._promised: float | None = None
        self._observed = True
        requests.first(self._state, config)

    @property
    def done(self) -> bool:
        """Whether it was told to stop and nothing is alive."""
        return self._state.stopping and not self._state.services

    @property
    def failed(self) -> bool:
        """Whether it stops, or has, because a service failed for good."""
        return self._failed

    def observe(self, event: Event, now: float) -> None:
        """Write down what happened; nothing is decided before the next plan."""
        self._observed = True
        if isinstance(event, Request):
            requests.observe(self._state, event, now)
        else:
            facts.observe(self._state, event, now)

    def plan(self, now: float) -> list[Command]:
        """Return what is to be done now; planned again, nothing."""
        self._give_back_lost_time(now)
        commands: list[Command] = []
        while batch := list(self._apply_rules(now)):
            commands += batch
        self._observed, self._planned_at = False, now
        return commands

    def deadline(self) -> float | None:
        """Return when to plan again even if nothing happens; None: only when something does."""
        if self._observed:
            self._promised = self._planned_at
            return self._promised
        state = self._state
        due = [rules.next_deadline(state, service, self._planned_at) for service in state.services.values()]
        self._promised = min((at for at in due if at is not None), default=None)
        return self._promised

    def snapshot(self, now: float, service: str | None = None, *, brief: bool = False) -> dict[str, Any]:
        """Return a picture of now for people; instants in it are monotonic. Of `service` it tells the last exits.

        A `brief` one has no workers.
        """
        return snapshot.take(self._state, now, service, brief=brief)

    def take_news(self) -> list[News]:
        """Return what happened since this was last called."""
        news, self._state.news = self._state.news, []
        return news

    def _apply_rules(self, now: float) -> Iterator[Command]:
        if self._exit_on_failed and not self._state.stopping and any(s.failed for s in self._state.services.values()):
            self._failed = True
            requests.stop_all(self._state, 0, quick=False, now=now)
        # What starts comes before what stops: an address that moves from one service to another stays open.
        for service in sorted(self._state.services.values(), key=lambda one: one.wanted != RUNNING):
            yield from rules.apply(self._state, service, now)
            if service.at_rest and (self._state.stopping or service.wanted == REMOVED):
                del self._state.services[service.name]
        if requests.read_next(self._state):  # last: a roll that has just ended lets the next reload begin
            yield ReadConfig()

    def _give_back_lost_time(self, now: float) -> None:
        late = self._promised is not None and now - self._promised > LATE
        self._promised = None
        if not late:
            return
        lost, self._state.awake_since = now - self._planned_at, now
        for _, one in self._state.living.values():
            if one.deadline is not None:
                one.deadline += lost
            if one.stacks_by is not None:
                one.stacks_by += lost
