"""The launcher's loop: plan, perform, observe, wait. The simulator runs this very one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.state import News
    from forkd.core.supervisor import Supervisor


class Kernel(Protocol):
    """The port to the operating system: it does what it is told and decides nothing."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def perform(self, command: Command) -> Iterable[Event]:
        """Do it at once, without blocking, and return what came of it."""

    def wait(self, deadline: float | None) -> Iterable[Event]:
        """Sleep until something happens or the deadline (None: none) is there; return what happened."""


def run(supervisor: Supervisor, kernel: Kernel, report: Callable[[Sequence[News]], object]) -> None:
    """Run until the supervisor is done; every turn's news go to `report`."""
    while True:
        for command in supervisor.plan(kernel.now()):
            for event in kernel.perform(command):
                supervisor.observe(event, kernel.now())
        report(supervisor.take_news())
        if supervisor.done:
            return
        for event in kernel.wait(supervisor.deadline()):
            supervisor.observe(event, kernel.now())
