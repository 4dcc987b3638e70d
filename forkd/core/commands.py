"""What the supervisor asks the kernel to do: six commands, performed at once, their results observed as events."""

from __future__ import annotations

from typing import NamedTuple

from forkd.core.spec import ServiceSpec

HUP, INT, QUIT, ABRT, KILL, TERM = 1, 2, 3, 6, 9, 15  # signal(7), x86-64 and arm64 alike
# Of the real-time signals, which nothing else means: show your stacks to the launcher, and dump those of the native
# threads for it, which needs no interpreter and may cost a worker that is well its life.
STACKS, DUMP = 40, 41


class ReadConfig(NamedTuple):
    """Read the configuration in a child; answered later by ConfigRead or ConfigRefused."""


class StartZygote(NamedTuple):
    """Open the listeners of `spec` and start a zygote; answered by Started, or by Failed and Exited."""

    id: int
    generation: int
    spec: ServiceSpec


class Spawn(NamedTuple):
    """Tell a zygote to fork a worker; answered later by Started, or by Failed and Exited."""

    id: int
    zygote: int
    slot: int


class Signal(NamedTuple):
    """Signal an incarnation. KILL goes to its whole process group, and ends one that has no pid yet."""

    id: int
    signal: int


class Look(NamedTuple):
    """See how a worker is, from its scoreboard alone; answered by Seen."""

    id: int


class Retire(NamedTuple):
    """A generation forks no more: close its listeners, its zygote's too, which exits after its last worker."""

    service: str
    generation: int


Command = ReadConfig | StartZygote | Spawn | Signal | Look | Retire

SIGNALS = {
    HUP: "SIGHUP", INT: "SIGINT", QUIT: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", ABRT: "SIGABRT", 7: "SIGBUS",
    8: "SIGFPE", KILL: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM",
    TERM: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip
