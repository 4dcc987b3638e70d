"""What keeps leases, as all else sees it: the few questions that it answers, and what its answers say.

Its clock is the only one that instants are told by. It measures from when it has got a question, so whoever counts from
before he asked is never the later one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from forkd.errors import ForkdError

KEPT = 1000  # the runs of a task that are remembered


class Unreachable(ForkdError):
    """The backend gave no answer, or none that helps: nothing is known of what became of the question."""


class Standing(NamedTuple):
    """How a task stands. Instants are seconds of the backend's clock since 1970, exact to the millisecond.

    `token` is that of the last run, or what comes before the first. `tick` is the instant that this run was for, None
    when there was none yet; `ended` when it had ended, None when nobody has said so. For `left` seconds nobody else can
    have the task. It was so at `now`.
    """

    token: int
    tick: float | None
    ended: float | None
    left: float
    now: float


class Taken(NamedTuple):
    """Whether the task is now ours, and how it stands."""

    granted: bool
    standing: Standing


class Run(NamedTuple):
    """One run of a task: its token, who ran it (`host/service/slot/incarnation`), when, and what came of it.

    `outcome` is `ok`, `failed`, `lost` (its lease could not be renewed), `stopped`, or `expired`: nobody has said how
    it ended, and the next one began; until one of these is known it is empty, and `ended` None.
    """

    token: int
    holder: str
    started: float
    ended: float | None
    outcome: str


class Backend(Protocol):
    """Leases of tasks, each by a name. Any thread may ask; whatever goes wrong is an `Unreachable`."""

    def look(self, task: str, *, begin: bool) -> Standing:
        """Return how a task stands. Of one that it has not heard of, `begin` counts this moment as its last tick."""

    def take(self, task: str, token: int, tick: float, holder: str) -> Taken:
        """Have the task for one lease, if the last token is still this one and nobody has it; note that a run starts.

        The new token is one more. `tick` becomes the instant that it is for. Who got no answer may ask once more: what
        this very object was given and has not finished, it is given again.
        """

    def renew(self, task: str, token: int) -> bool:
        """Have the task for one lease from now on, if the token is still the last one; tell whether it is."""

    def finish(self, task: str, token: int, outcome: str, ended: float) -> bool:
        """Note how and when the run of this token ended; give the task back if it is the last one, and tell whether.

        `ended` is by the backend's clock, as well as the worker knows it: on a bad line this may be heard late.
        """

    def runs(self, task: str, most: int) -> list[Run]:
        """Return the last runs of a task, the latest first."""

    def close(self) -> None:
        """Close what is open; the next question opens it anew."""
