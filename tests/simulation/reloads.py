"""What a reload comes to where nothing fails but code: then it is known for each service whether it can be rolled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.processes import GOOD
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec
    from tests.simulation.ledger import Ledger
    from tests.simulation.processes import Code
    from tests.simulation.wants import Asked
    from tests.simulation.world import World


def check_ended(world: World, ledger: Ledger, shown: dict[str, dict[str, Any]], asked: Asked) -> None:
    """Raise Violation unless good code has been rolled out, whatever became of other services.

    That bad code is rolled back follows from what is checked elsewhere: a roll ends when all slots serve.
    """
    for name in sorted(ledger.wants.named(asked.request) & ledger.begun - ledger.wants.stopped):
        current = shown[name]["generation"]
        newest = max((number for service, number in ledger.generations if service == name), default=current)
        spec = ledger.generations[name, newest]
        if works(world.codes.get((name, newest), GOOD), spec):
            world.tally["reload: rolled out"] += 1
            if current != newest:
                raise Violation(f"{name} was reloaded, and runs generation {current} instead of {newest}")
        elif current != newest:
            world.tally["reload: rolled back"] += 1


def works(code: Code, spec: ServiceSpec) -> bool:
    """Tell whether all workers of a service get ready with this code."""
    if code == GOOD:
        return True
    return code.kind in {"fails at start", "dies at start", "never ready"} and code.slot >= spec.workers
