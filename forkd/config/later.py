"""The keys that are known and come with a later version; they are checked like the others, then refused.

A field here moves to `forkd/core/spec.py` when its work is done.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from forkd.core.field import Doc, Unit

Path = Annotated[str, Unit("path")]


class LaterService(NamedTuple):
    """What a service will be able to set."""

    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    command: tuple[str, ...] = ()
    ready: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    stdout: Annotated[str, Unit("output"), Doc("where the workers' output goes: `inherit`, to the launcher's own")] = (
        "inherit"
    )
    stderr: Annotated[str, Unit("output"), Doc("as `stdout`")] = "inherit"


class LaterControl(NamedTuple):
    """Who may control the launcher."""

    group: Annotated[str, Unit("group")] = ""


class LaterDashboard(NamedTuple):
    """The operator's web page."""

    bind: Annotated[str, Unit("address")] = ""
    token_file: Path = ""


class LaterReaction(NamedTuple):
    """What is done when something happens."""

    kinds: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    url: str = ""


class LaterFileKeys(NamedTuple):
    """What a file will be able to set beside its services."""

    control: LaterControl = LaterControl()
    dashboard: LaterDashboard = LaterDashboard()
    on_event: tuple[LaterReaction, ...] = ()


# Keys above that may be given already, with the one value that holds today.
TAKEN = {"stdout": "inherit", "stderr": "inherit"}
