"""One incarnation as the supervisor may know it: what it was told of it, and what it ordered. It judges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core import commands
from forkd.core.stacks import ANSWER, DUMPED
from tests.simulation.violation import EPSILON

if TYPE_CHECKING:
    from forkd.core import events
    from forkd.core.spec import ServiceSpec


class Life:
    """The instants (seconds) of what the supervisor was told of one incarnation and ordered of it.

    In its present phase it has `pardon` seconds more than its timeout at least, and `slack` at most, because the
    launcher or the machine stood still; `doubtful` is set once something happened for which the supervisor may have
    wanted its end. `done`: it ended as one that has done what it was there for. `failed`: it said why it would die.
    `due`: it is to be replaced though it serves. `beat` is its last known sign of life, `silent` when it was first found
    to have given none for too long, `hung` whether it is given up for that. `unwanted`: it drained unasked when its
    service was stopped, so that it need not be told. By `stacks_by` it must have shown the stacks that somebody asked it
    for, `dumping` whether it was made to dump them.
    """

    __slots__ = ("beat", "born", "done", "doubtful", "draining", "due", "dumping", "exited", "failed", "generation",
                 "hung", "id", "pardon", "ready", "signals", "silent", "slack", "slot", "spec", "stacks_by", "started",
                 "unwanted", "zygote")  # fmt: skip

    def __init__(self, id: int, generation: int, spec: ServiceSpec, born: float) -> None:
        self.id, self.generation, self.spec, self.born = id, generation, spec, born
        self.slot: int | None = None
        self.zygote: int | None = None
        self.started: float | None = None
        self.ready: float | None = None
        self.draining: float | None = None
        self.exited: float | None = None
        self.signals: dict[int, float] = {}
        self.pardon = self.slack = 0.0
        self.done = self.doubtful = self.due = self.failed = self.hung = self.unwanted = False
        self.beat = born
        self.silent: float | None = None
        self.stacks_by: float | None = None
        self.dumping = False

    @classmethod
    def of_worker(cls, id: int, zygote: Life, slot: int, born: float) -> Life:
        """Return the life of a worker that a zygote is to fork."""
        life = cls(id, zygote.generation, zygote.spec, born)
        life.slot, life.zygote = slot, zygote.id
        return life

    def enter_phase(self) -> None:
        """Begin to count anew how long it has had."""
        self.pardon = self.slack = 0.0

    def signalled(self, number: int, now: float) -> None:
        """Write down a signal of the launcher's own."""
        if number == commands.TERM and commands.STACKS not in self.signals:
            self.hung = False  # whatever it did, it is stopped with the others
        self.signals[number] = now
        self.enter_phase()

    def asked_for_stacks(self, now: float) -> None:
        """Write down that an operator has asked for its stacks."""
        if self.stacks_by is None:
            self.stacks_by = now + ANSWER

    def dumps(self, now: float) -> None:
        """Write down that it was made to dump its stacks."""
        self.dumping, self.stacks_by = True, now + DUMPED

    def shows_what_it_dumped(self, now: float) -> bool:
        """Tell whether it has had the time to dump its stacks, so that it is to be looked at."""
        return self.dumping and self.stacks_by is not None and now >= self.stacks_by - EPSILON

    def shows_stacks(self) -> None:
        """Write down that it has shown its stacks, or that there was nothing to be seen of any."""
        self.dumping, self.stacks_by = False, None

    def leaves(self, now: float) -> None:
        """Write down that it stops, though the launcher did not want it to."""
        self.draining = now
        self.enter_phase()

    def seen(self, beat_at: float, awake: float, now: float) -> None:
        """Write down its last sign of life; no silence before `awake` counts."""
        self.beat = max(self.beat, beat_at)
        silent = self.serving and max(self.beat, awake) + self.spec.hang_timeout <= now
        self.silent = (now if self.silent is None else self.silent) if silent else None

    @property
    def service(self) -> str:
        """Whose it is."""
        return self.spec.name

    @property
    def asked(self) -> bool:
        """Whether the launcher told it to stop, for another reason than that it hangs."""
        return self.unwanted or (commands.TERM in self.signals and not self.hung) or commands.QUIT in self.signals

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out, asked or not."""
        return self.draining is not None or bool(self.signals.keys() - {commands.HUP})

    @property
    def forced(self) -> bool:
        """Whether it was made to end, or is to be, before perhaps it was asked to."""
        by_force = self.hung or {commands.ABRT, commands.KILL} & self.signals.keys()
        return bool(by_force) and (self.doubtful or self.slot is None)

    @property
    def followed_in_any_case(self) -> bool:
        """Whether its slot is free as soon as it stops of its own accord, however it ends."""
        return self.spec.restart.policy == "always"

    @property
    def holds_slot(self) -> bool:
        """Whether it has its slot to itself, as far as that depends on it."""
        return not (self.asked or self.due) and (self.draining is None or not self.followed_in_any_case)

    @property
    def serving(self) -> bool:
        """Whether it serves, as far as one can know."""
        return self.ready is not None and not self.leaving

    def ends(self, end: events.Exited, now: float) -> None:
        """Write down how it ended."""
        job = self.slot is not None and self.spec.restart.policy == "on-failure"
        self.exited, self.done = now, job and end.code == 0 and not self.hung

    def __str__(self) -> str:
        what = "zygote" if self.slot is None else f"slot {self.slot}"
        return f"{self.service} {what} #{self.id} of generation {self.generation}"
