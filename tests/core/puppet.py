"""A kernel on strings: it answers each command as the test says, in a virtual time that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forkd.core.commands import ABRT, KILL, QUIT, TERM, Look, ReadConfig, Retire, Signal, Spawn, StartZygote
from forkd.core.events import ConfigRead, ConfigRefused, Exited, Failed, Ready, Seen, Started
from forkd.core.spec import Config, ServiceSpec
from forkd.core.supervisor import Supervisor

if TYPE_CHECKING:
    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.state import News


def service(name: str = "shop", **keys: Any) -> ServiceSpec:
    """Return a spec with the tests' defaults."""
    return ServiceSpec(name, "wsgi", **{"hang_timeout": 0.0, **keys})


class Puppet:
    """Everything imports, becomes ready and stops at once, but what the test put into one of the sets."""

    def __init__(self, *specs: ServiceSpec, silent: str = "", exit_on_failed: bool = False) -> None:
        """No worker of the service `silent` gets ready unless the test says so."""
        self.config = Config("/run/forkd", services=specs)
        self.supervisor = Supervisor(self.config, 0.0, exit_on_failed=exit_on_failed)
        self.now = 0.0
        self.commands: list[Command] = []
        self.news: list[News] = []
        self.problems: tuple[str, ...] = ()
        self.bad_imports: set[int] = set()  # generations
        self.silent = silent
        self.slow_imports: set[int] = set()
        self.no_ports: set[int] = set()  # generations whose zygote cannot be started
        self.bad_slots: set[tuple[int, int]] = set()  # (generation, slot)
        self.silent_slots: set[tuple[int, int]] = set()
        self.stubborn: set[int] = set()  # signals that nobody heeds
        self.unborn: set[int] = set()  # generations whose workers never announce themselves
        self.lingering: set[int] = set()  # generations whose zygotes do not exit when they are retired
        self.hung_since: dict[int, float] = {}  # when a worker gave its last sign of life
        self.dumped: dict[int, str] = {}  # stacks that stand on a worker's scoreboard
        self._zygotes: dict[int, tuple[str, int]] = {}  # id: service and generation
        self.run()

    def run(self) -> None:
        """Plan and perform until nothing more comes of it."""
        while commands := self.supervisor.plan(self.now):
            assert self.supervisor.plan(self.now) == []
            for command in commands:
                self.commands.append(command)
                self.tell(*self._answer(command), run=False)
        self.news += self.supervisor.take_news()
        due = self.supervisor.deadline()
        assert due is None or due > self.now

    def tell(self, *events: Event, run: bool = True) -> None:
        """Let something happen."""
        for event in events:
            self.supervisor.observe(event, self.now)
        if run:
            self.run()

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at each deadline."""
        end = self.now + seconds
        while (due := self.supervisor.deadline()) is not None and due <= end:
            self.now = due
            self.run()
        self.now = end
        self.run()

    def take(self, kind: type[Command] | None = None) -> list[Command]:
        """Return the commands since the last call, of one kind or all, and forget them."""
        taken, self.commands = self.commands, []
        return [command for command in taken if kind is None or isinstance(command, kind)]

    def told(self, kind: str) -> list[News]:
        """Return the news of one kind."""
        return [news for news in self.news if news.kind == kind]

    def status(self, name: str = "shop") -> dict[str, Any]:
        """Return the snapshot of one service, in detail."""
        services = self.supervisor.snapshot(self.now, name)["services"]
        found: dict[str, Any] = next(s for s in services if s["name"] == name)
        return found

    def slots(self, name: str = "shop") -> dict[int, tuple[str, int]]:
        """Return phase and generation of the newest worker of each slot."""
        return {w["slot"]: (w["phase"], w["generation"]) for w in self.status(name)["workers"]}

    def worker(self, slot: int = 0, name: str = "shop") -> int:
        """Return the id of the newest worker of a slot."""
        ids: list[int] = [w["id"] for w in self.status(name)["workers"] if w["slot"] == slot]
        return max(ids)

    def zygote(self, generation: int, name: str = "shop") -> int:
        """Return the id of the newest zygote of a generation."""
        return max(id for id, home in self._zygotes.items() if home == (name, generation))

    def _answer(self, command: Command) -> list[Event]:
        match command:
            case ReadConfig():
                return [ConfigRefused(self.problems)] if self.problems else [ConfigRead(self.config)]
            case StartZygote(id, generation, spec):
                self._zygotes[id] = spec.name, generation
                return self._import(id, generation)
            case Spawn(id, zygote, slot):
                return self._start(id, *self._zygotes[zygote], slot)
            case Retire(name, generation):
                retired = [id for id, home in self._zygotes.items() if home == (name, generation)]
                return [Exited(id, 0, None) for id in retired if generation not in self.lingering]
            case Signal(id, signal):
                return self._signal(id, signal)
            case Look(id):
                return [Seen(id, self.hung_since.get(id, self.now), self.dumped.pop(id, ""))]

    def _import(self, id: int, generation: int) -> list[Event]:
        if generation in self.no_ports:
            return [Failed(id, "cannot listen"), Exited(id, None, None)]
        if generation in self.bad_imports:
            return [Started(id, 1000 + id), Failed(id, "KeyError: 'DSN'", "Traceback …"), Exited(id, 1, None)]
        return [Started(id, 1000 + id), *[Ready(id)] * (generation not in self.slow_imports)]

    def _start(self, id: int, name: str, generation: int, slot: int) -> list[Event]:
        if generation in self.unborn:
            return []
        not_silent = name != self.silent and (generation, slot) not in self.silent_slots
        if (generation, slot) in self.bad_slots:
            return [Started(id, 1000 + id), Failed(id, "OSError: no database"), Exited(id, 1, None)]
        return [Started(id, 1000 + id), *[Ready(id)] * not_silent]

    def _signal(self, id: int, signal: int) -> list[Event]:
        if signal in self.stubborn or signal not in {TERM, QUIT, ABRT, KILL}:
            return []
        return [Exited(id, None, signal)] if signal in {ABRT, KILL} else [Exited(id, 0, None)]
