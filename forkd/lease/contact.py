"""A worker's contact with what keeps its leases: an outage is told of once, and once that it is over."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from forkd.errors import ForkdError
from forkd.lease.backend import Unreachable
from forkd.lease.deadline import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.lease.address import Address
    from forkd.lease.backend import Backend

T = TypeVar("T")

_log = logging.getLogger("forkd.periodic")

PATIENCE = 0.2  # of a lease: how long an answer may take


class Contact:
    """All tasks of a worker ask by it, from any of its threads."""

    def __init__(self, address: Address) -> None:
        """Raise `ForkdError` when the backend's driver is not installed."""
        self.address = address
        self.backend = opened(address, PATIENCE * address.ttl)
        self._lock = threading.Lock()
        self._lost: float | None = None  # when the outage began that there is
        self._users = 0

    def ask(self, question: Callable[..., T], *values: object, **named: object) -> T | None:
        """Return what the backend answers to one of its questions; None when there is no answer."""
        try:
            answer = question(*values, **named)
        except Unreachable as error:
            self._tell_outage(error)
            return None
        self._tell_end()
        return answer

    def enter(self) -> None:
        """Count one more user."""
        self._users += 1

    def leave(self) -> None:
        """Close what is open after the last user."""
        self._users -= 1
        if self._users == 0:
            self.backend.close()

    def _tell_outage(self, error: Unreachable) -> None:
        with self._lock:
            if self._lost is not None:
                return
            self._lost = now()
        text = str(error)
        try:
            password = self.address.secret()
        except ForkdError:
            password = None  # so nobody can have told it
        if password:
            text = text.replace(password, "…")
        _log.warning("no lease from %s, so tasks of the cluster stand by: %s", self.address.shown, text)

    def _tell_end(self) -> None:
        if self._lost is None:
            return
        with self._lock:
            lost, self._lost = self._lost, None
        if lost is not None:
            _log.warning("leases from %s again, after %.1f s", self.address.shown, now() - lost)


def opened(address: Address, timeout: float) -> Backend:
    """Return the backend of an address, which nothing has been asked yet, and whose answers may take `timeout` seconds.

    Raise `ForkdError` when its driver is not installed, or does not know an option of the address.
    """
    try:
        if address.backend == "redis":
            from forkd.lease.redis import RedisBackend  # lazy: the driver is an extra

            return RedisBackend(address, timeout)
        from forkd.lease.postgresql import PostgresqlBackend  # lazy: as above

        return PostgresqlBackend(address, timeout)
    except ImportError as error:
        what = f"needs a driver that cannot be imported ({error}): pip install 'forkd[{address.backend}]'"
        raise ForkdError(f"lease: {address.shown} {what}") from None
    except (TypeError, ValueError) as error:
        text = f"has an option that the driver does not take, beside forkd's own ttl and password_file: {error}"
        raise ForkdError(f"lease: {address.shown} {text}") from None
