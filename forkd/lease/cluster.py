"""A worker's part in the tasks of the cluster: for each one its claim, its schedule, and the call under a lease."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.lease.address import parse
from forkd.lease.claim import Claim
from forkd.lease.contact import Contact
from forkd.lease.schedule import LeasedSchedule
from forkd.threadgroup.engine import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.periodic import Periodic
    from forkd.threadgroup import ThreadGroup


class Cluster:
    """The tasks of one service, by one contact."""

    def __init__(self, url: str, service: str, holder: str) -> None:
        """`holder` says in the record of runs who this is. Raise `ForkdError` for a bad URL or a missing driver."""
        try:
            address = parse(url)
        except ValueError as error:
            raise ForkdError(f"lease: {error}") from None
        self._contact = Contact(address)
        self._service = service
        self._holder = holder

    def share(
        self, name: str, how: Periodic, method: Callable[..., Any], group: ThreadGroup
    ) -> tuple[Task, LeasedSchedule]:
        """Return what a timer calls for a task, and when."""
        claim = Claim(self._contact, f"{self._service}.{name}", self._holder)
        takes_lease = "lease" in inspect.signature(method).parameters
        call = partial(claim.run, group, method, takes_lease)
        schedule = LeasedSchedule(how.grid(), claim, run_immediately=how.run_immediately, jitter=how.jitter)
        return Task(call, (), {}, name), schedule
