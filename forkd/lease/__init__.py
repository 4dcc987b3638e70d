"""Leases: who of all hosts has a task of the scope `cluster`, and the record of who ran it when."""

from __future__ import annotations

from forkd.errors import ForkdError
from forkd.lease.backend import Run
from forkd.lease.lease import Lease, LeaseLost

__all__ = ["Lease", "LeaseLost", "Run", "runs"]

_PATIENCE = 10.0  # seconds, for people


def runs(url: str, service: str, task: str, most: int = 20) -> list[Run]:
    """Return the last runs of a service's task, on whatever host, the latest first; `url` is the key `lease`.

    Raise `ForkdError` when they cannot be had.
    """
    from forkd.lease import address, contact  # lazy: whoever names a Lease need not have a driver

    try:
        backend = contact.opened(address.parse(url), _PATIENCE)
    except ValueError as error:
        raise ForkdError(f"lease: {error}") from None
    try:
        return backend.runs(f"{service}.{task}", most)
    finally:
        backend.close()
