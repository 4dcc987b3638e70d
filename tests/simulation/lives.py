"""All lives there ever were, and the living ones by service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.life import Life

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lives(dict[int, Life]):
    """Each life by its id; who has exited is kept, but lives no more."""

    def __init__(self) -> None:
        super().__init__()
        self._zygotes: dict[str, dict[int, Life]] = {}
        self._workers: dict[str, dict[int, Life]] = {}

    def begin(self, life: Life) -> None:
        """Write down a new one."""
        self[life.id] = life
        self._kind(life).setdefault(life.service, {})[life.id] = life

    def end(self, life: Life) -> None:
        """Write down that one is dead."""
        del self._kind(life)[life.service][life.id]

    def _kind(self, life: Life) -> dict[str, dict[int, Life]]:
        return self._zygotes if life.slot is None else self._workers

    def now(self) -> Iterator[Life]:
        """Yield all that live."""
        for kind in (self._zygotes, self._workers):
            for lives in kind.values():
                yield from lives.values()

    def zygotes(self, service: str) -> list[Life]:
        """Return the living zygotes of a service."""
        return list(self._zygotes.get(service, {}).values())

    def workers(self, service: str) -> list[Life]:
        """Return the living workers of a service."""
        return list(self._workers.get(service, {}).values())

    def of(self, service: str) -> list[Life]:
        """Return all that lives of a service."""
        return [*self.zygotes(service), *self.workers(service)]

    def populated(self, service: str, generation: int) -> bool:
        """Return whether workers of a generation live."""
        return any(life.generation == generation for life in self._workers.get(service, {}).values())

    def counted(self, service: str) -> list[Life]:
        """Return the living workers that a surge counts: not those that drain of their own accord."""
        return [life for life in self.workers(service) if life.asked or life.draining is None]

    def unborn(self, service: str) -> int:
        """Return how many workers were ordered and have not announced themselves."""
        return sum(life.started is None for life in self.workers(service))
