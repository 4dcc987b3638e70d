"""Facts that the supervisor observes: what happened to an incarnation, and what an operator asked for.

An incarnation is one life of a zygote or a worker. Its `id` is never used twice; a pid is only a
fact about it.
"""

from __future__ import annotations

from typing import NamedTuple

from forkd.core.spec import Config


class Started(NamedTuple):
    """The incarnation is a process now."""

    id: int
    pid: int


class Ready(NamedTuple):
    """A zygote has imported its code; a worker serves."""

    id: int


class Failed(NamedTuple):
    """The incarnation says why it is about to die, or the kernel says why it was never born."""

    id: int
    error: str
    traceback: str = ""


class Draining(NamedTuple):
    """A worker takes nothing new and will exit."""

    id: int


class Recycle(NamedTuple):
    """A worker says that it has done enough; it serves on until its successor is ready."""

    id: int
    reason: str


class Health(NamedTuple):
    """How a worker answered its healthcheck, `failures` times in a row badly (0: well); `unhealthy`: too often."""

    id: int
    failures: int
    unhealthy: bool = False
    text: str = ""


class Seen(NamedTuple):
    """What the kernel sees of a worker without asking it: the instant of its last heartbeat, and stacks it dumped."""

    id: int
    beat_at: float
    stacks: str = ""


class Exited(NamedTuple):
    """The incarnation is dead and reaped, by exit `code` or `signal`; both None where nobody can know.

    `core`: it left a core file. `oom`: the kernel killed it for want of memory. `stacks`: what it dumped before.
    """

    id: int
    code: int | None
    signal: int | None
    core: bool = False
    oom: bool = False
    stacks: str = ""


class Reload(NamedTuple):
    """Re-read the configuration and roll `service` (None: all of them) to fresh code."""

    ticket: int = 0
    service: str | None = None


class Restart(NamedTuple):
    """Replace the workers of `service` (None: of all) by new ones of the same code; start what was stopped."""

    ticket: int = 0
    service: str | None = None


class Stop(NamedTuple):
    """Stop `service` (None: everything, and end); `quick`: without draining."""

    ticket: int = 0
    service: str | None = None
    quick: bool = False


class Scale(NamedTuple):
    """Run `workers` workers of `service`, or with `relative` so many more; service None: of the only one there is."""

    ticket: int
    service: str | None
    workers: int
    relative: bool = False


class SignalWorkers(NamedTuple):
    """Send a signal to the workers of `service` (None: of all), or to the one that holds its `slot`."""

    ticket: int
    service: str | None
    slot: int | None
    signal: int


class ConfigRead(NamedTuple):
    """The configuration that was asked for."""

    config: Config


class ConfigRefused(NamedTuple):
    """It does not validate; a line per mistake."""

    problems: tuple[str, ...]


Fact = Started | Ready | Failed | Draining | Recycle | Health | Seen | Exited
Request = Reload | Restart | Stop | Scale | SignalWorkers | ConfigRead | ConfigRefused
Event = Fact | Request
