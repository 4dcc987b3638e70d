"""What the ends that nobody asked for come to: waits, slots that nobody follows in, failures that may be too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forkd.core import events
    from tests.simulation.life import Life


class Ends:
    """Of every service and slot, until it is forgiven."""

    def __init__(self) -> None:
        self.waits = Waits()
        self.done: set[tuple[str, int]] = set()  # slots that nobody follows in
        self.undone: set[tuple[str, int]] = set()  # those of them whose last worker did not end well
        self._failures: dict[str, list[float]] = {}

    def fails(self, life: Life, now: float) -> None:
        """Write down that a life has failed, or is given up."""
        self.waits.ended(life, now)
        self.counts(life, now)

    def counts(self, life: Life, now: float) -> None:
        """Write down a failure that its service may have only so many of."""
        self._failures.setdefault(life.service, []).append(now)

    def exits(
        self, life: Life, end: events.Exited, others: Iterable[Life], now: float, *, retired: bool, blamed: bool
    ) -> None:
        """Write down an end that nobody asked for, `others` being the workers of the service.

        A worker that never was is not counted, since its zygote is, and what was `blamed` for the end of a roll neither.
        """
        last = life.done or life.spec.restart.policy == "never"
        if life.slot is not None and last and all(other.slot != life.slot or other is life for other in others):
            self.done.add((life.service, life.slot))
            if end.code != 0:
                self.undone.add((life.service, life.slot))
        if not life.done:
            self.waits.ended(life, now, retired=retired)
            never_was = life.slot is not None and life.started is None and not life.failed and not life.signals
            if not (retired or blamed or never_was):
                self.counts(life, now)

    def failures(self, service: str, since: float) -> int:
        """Return how often something of a service failed after an instant."""
        return sum(at > since for at in self._failures.get(service, ()))

    def forgive(self, service: str) -> None:
        """Forget the failures of its slots: it is about to run something else, or again."""
        self.waits.forgive(service)
        self.done = {key for key in self.done if key[0] != service}
        self.undone &= self.done

    def forget(self, service: str) -> None:
        """Forget how often it failed, too."""
        self.forgive(service)
        self._failures.pop(service, None)
