"""All that the supervisor knows. Nothing here decides; `rules` compares what is wanted with what is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from forkd.core.events import Reload
    from forkd.core.incarnation import Incarnation
    from forkd.core.service import Service
    from forkd.core.spec import Config


class News(NamedTuple):
    """Something people may want to know; `kind` says which of the other fields are set."""

    kind: str
    service: str | None = None
    slot: int | None = None
    id: int | None = None
    pid: int | None = None
    generation: int | None = None
    stacks: str | None = None
    ticket: int | None = None
    ok: bool | None = None
    text: str | None = None


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
    """The services, what operators ask for, and what was not told yet; every change is told in `news`.

    No silence before `awake_since` counts: launcher or machine stood still then.
    """

    def __init__(self, config: Config, now: float) -> None:
        self.config = config
        self.started_at = self.awake_since = now
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
