"""The launcher's records of the processes it has: what is theirs, and who is who; it makes no system call but close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd import scoreboard
from forkd.scoreboard import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.channel import Channel
    from forkd.core.spec import ServiceSpec
    from forkd.scoreboard import Counters, Reader
    from forkd.tallies import Name


class Offspring:
    """One incarnation, from its command to its Exited.

    `pid` is None for a worker that has not announced itself. `heard` counts its messages, `failed` says
    that one of them was its last words, `deaf` that its channel has ended or is not listened to any more, and
    `killed` that the launcher has sent it KILL.
    """

    __slots__ = ("channel", "deaf", "failed", "generation", "heard", "id", "killed", "pid", "spec")

    def __init__(self, id: int, spec: ServiceSpec, generation: int, channel: Channel) -> None:
        self.id = id
        self.spec = spec
        self.generation = generation
        self.channel = channel
        self.pid: int | None = None
        self.heard = 0
        self.deaf = self.failed = self.killed = False

    def close(self) -> None:
        """Close what the launcher holds of it."""
        self.channel.close()


class Zygote(Offspring):
    """A process that has imported, or imports, one generation of a service; only then it looks after workers."""

    __slots__ = ("imported",)

    def __init__(self, id: int, spec: ServiceSpec, generation: int, channel: Channel) -> None:
        super().__init__(id, spec, generation, channel)
        self.imported = False

    def is_foreign(self) -> bool:
        """Tell of one that has ended whether it never was a zygote's program: it did not read its first message."""
        return self.channel.unread and not self.imported and not self.failed


class Worker(Offspring):
    """A worker, or what may become one.

    `zygote` is the id of the one that looks after it, at first its parent, `names` are those of its counters, once it
    has told them, and `owed` is how often it was asked for its stacks and has not sent them.
    """

    __slots__ = ("board", "names", "owed", "slot", "zygote")

    def __init__(self, parent: Zygote, id: int, slot: int, channel: Channel, board: Reader) -> None:
        super().__init__(id, parent.spec, parent.generation, channel)
        self.zygote = parent.id
        self.slot = slot
        self.board = board
        self.names: tuple[Name, ...] = ()
        self.owed = 0

    def counters(self) -> Counters:
        """Read its scoreboard."""
        return self.board.read(self.names)

    def close(self) -> None:
        """Close what the launcher holds of it."""
        super().close()
        self.board.close()


class Family:
    """Every incarnation that lives, by its id, and by its pid once it has one; of the dead, what they have counted."""

    __slots__ = ("_by_id", "_by_pid", "_past")

    def __init__(self) -> None:
        self._past: dict[str, Counters] = {}  # by service
        self._by_id: dict[int, Offspring] = {}
        self._by_pid: dict[int, Offspring] = {}

    def __iter__(self) -> Iterator[Offspring]:
        return iter(list(self._by_id.values()))

    def add(self, one: Offspring) -> None:
        """Take in an incarnation."""
        self._by_id[one.id] = one
        if one.pid is not None:
            self._by_pid[one.pid] = one

    def announce(self, one: Offspring, pid: int) -> None:
        """Note which process it is."""
        one.pid = pid
        self._by_pid[pid] = one

    def remove(self, one: Offspring) -> None:
        """Forget it but for its counts, and close what the launcher holds of it."""
        del self._by_id[one.id]
        if isinstance(one, Worker):
            past, last = self._past.get(one.spec.name, NOTHING), one.counters()
            # What it had begun, nobody does any more.
            self._past[one.spec.name] = scoreboard.total([past, last._replace(in_flight=0)])
        if one.pid is not None:
            del self._by_pid[one.pid]
        one.close()

    def get(self, id: int) -> Offspring | None:
        """Find an incarnation that lives."""
        return self._by_id.get(id)

    def of_pid(self, pid: int) -> Offspring | None:
        """Find an incarnation by its process."""
        return self._by_pid.get(pid)

    def totals(self, service: str) -> Counters:
        """Add up what a service's workers have done, the dead ones too."""
        living = [one.counters() for one in self if isinstance(one, Worker) and one.spec.name == service]
        return scoreboard.total([self._past.get(service, NOTHING), *living])

    def unannounced(self) -> list[Worker]:
        """Give the workers that have not said yet which process they are."""
        return [one for one in self if isinstance(one, Worker) and one.pid is None]

    def is_additional(self, worker: Worker) -> bool:
        """Tell whether its service has others, none of which it may be meant to replace."""
        workers = [one for one in self if isinstance(one, Worker) and one.spec.name == worker.spec.name]
        slots = {one.slot for one in workers if one is not worker}
        return bool(slots) and worker.slot not in slots

    def zygotes(self, service: str) -> list[Zygote]:
        """Give the zygotes of a service that can still be told something, oldest first."""
        return [one for one in self if isinstance(one, Zygote) and one.spec.name == service and not one.deaf]

    def importing(self, service: str) -> list[tuple[Zygote, int]]:
        """Give the zygotes of a service that cannot look after anybody yet, nor after themselves, each with its pid."""
        return [(one, one.pid) for one in self.zygotes(service) if one.pid is not None and not one.imported]

    def attended(self, worker: Worker) -> bool:
        """Tell whether the zygote that looks after a worker is still there."""
        zygote = self._by_id.get(worker.zygote)
        return zygote is not None and not zygote.deaf

    def unattended(self, service: str) -> list[tuple[Worker, int]]:
        """Give the announced workers whose zygote is gone, each with its pid."""
        workers = [one for one in self if isinstance(one, Worker) and one.spec.name == service]
        return [(one, one.pid) for one in workers if one.pid is not None and not self.attended(one)]
