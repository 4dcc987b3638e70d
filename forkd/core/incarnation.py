"""One life of a zygote or a worker, as the supervisor knows it, and the end that it came to."""

from __future__ import annotations

from typing import NamedTuple

STARTING, READY, STOPPING, KILLED = "starting", "ready", "stopping", "killed"


class Exit(NamedTuple):
    """How an incarnation ended: at which monotonic second, by what, and why."""

    at: float
    code: int | None
    signal: int | None
    reason: str


class Checkup(NamedTuple):
    """How a worker answered its healthcheck last: so many times in a row badly, and what was wrong."""

    failures: int
    text: str


class Incarnation:
    """One life of a zygote (`slot` None) or a worker.

    `deadline` is the instant its present phase must be over, `asked` whether the launcher wants it to
    stop, `draining` whether it stops of its own accord or is given up, `error` its own last words.
    `due` says why a worker that serves is to be replaced. `beat_at` is its last known heartbeat; that there was
    none for too long was seen first at `silent_at`, and `looking` while the kernel is asked. `stacks_by` is when the
    stacks that somebody asked it for must have been shown, and `dumping` whether it was made to dump them.
    """

    __slots__ = (
        "aborted",
        "asked",
        "beat_at",
        "born",
        "checkup",
        "deadline",
        "draining",
        "due",
        "dumping",
        "error",
        "generation",
        "hung",
        "id",
        "looking",
        "phase",
        "pid",
        "quit",
        "ready_at",
        "silent_at",
        "slot",
        "stacks_by",
        "zygote",
    )

    def __init__(self, id: int, generation: int, now: float, deadline: float) -> None:
        self.id = id
        self.generation = generation
        self.born = now
        self.deadline: float | None = deadline
        self.slot: int | None = None
        self.zygote: int | None = None
        self.phase = STARTING
        self.pid: int | None = None
        self.ready_at: float | None = None
        self.error: str | None = None
        self.due: str | None = None
        self.checkup: Checkup | None = None
        self.beat_at = now
        self.silent_at: float | None = None
        self.stacks_by: float | None = None
        self.asked = self.draining = self.aborted = self.quit = self.looking = self.hung = self.dumping = False

    @property
    def serving(self) -> bool:
        """Whether it starts or serves, and was not told to stop."""
        return self.phase in {STARTING, READY}
