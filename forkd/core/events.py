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


class Exited(NamedTuple):
    """The incarnation is dead and reaped, by exit `code` or `signal`; both None where nobody can know."""

    id: int
    code: int | None
    signal: int | None


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


class ConfigRead(NamedTuple):
    """The configuration that was asked for."""

    config: Config


class ConfigRefused(NamedTuple):
    """It does not validate; a line per mistake."""

    problems: tuple[str, ...]


Event = Started | Ready | Failed | Draining | Exited | Reload | Restart | Stop | ConfigRead | ConfigRefused
