"""How long to wait before the next try; the first one after a healthy run is at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forkd.core.spec import RestartSpec


class Backoff:
    """The waits of one slot or one zygote: `wait` is the last one imposed, 0 after a healthy run."""

    __slots__ = ("retry_at", "wait")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every failure: the next try is at once."""
        self.wait = 0.0
        self.retry_at = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last run was no healthy one."""
        return self.retry_at > 0.0

    def ended(self, spec: RestartSpec, lived: float, now: float) -> None:
        """Record that a run ended after `lived` seconds."""
        if lived >= spec.healthy_after:
            self.reset()
            return
        self.wait = min(self.wait * spec.factor if self.wait else spec.delay, spec.max_delay)
        self.retry_at = now + self.wait
