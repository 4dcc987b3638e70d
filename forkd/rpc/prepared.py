"""What the clients for threads and for event loops have in common: how their calls are made; it sends none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any

from forkd.rpc.outgoing import Preparation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_AS_BEFORE: Any = object()  # what is not prepared anew


class Prepared(ABC):
    """A caller of one topic, who makes all calls in the same way; those prepared from it share its connections."""

    def __init__(
        self,
        topic: str,
        transport: str | None = None,
        timeout: float | None = 30.0,
        runtime_dir: str | None = None,
        *,
        allowed_exceptions: Sequence[type[Exception]] = (),
    ) -> None:
        self.topic = topic
        self._prepared = Preparation(topic, timeout, allowed=tuple(allowed_exceptions)).check()
        self._link_up(transport or "local", runtime_dir)

    @property
    def timeout(self) -> float | None:
        """The deadline of each call, in seconds; None: there is none."""
        return self._prepared.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._prepared = self._prepared._replace(timeout=seconds).check()

    def prepare(
        self,
        *,
        worker: int | str | None = _AS_BEFORE,
        timeout: float | None = _AS_BEFORE,
        version: str | None = _AS_BEFORE,
        context: dict[str, Any] = _AS_BEFORE,
    ) -> Self:
        """Return a client of the same connections, whose calls are made as this one's but for what is given.

        `worker`: to this one only: a slot of this host, or `HOST/SERVICE/SLOT`, or that with `/INCARNATION`.
        `version`: to servers of the same major version and at least this minor one. `context`: travels with each call,
        beside a `request_id` and what came with the call that the caller itself is running.
        """
        given = {"worker": worker, "timeout": timeout, "version": version, "context": context}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not _AS_BEFORE}
        twin = copy(self)
        twin._prepared = self._prepared._replace(**changes).check()  # noqa: SLF001 -- one of our own class
        return twin

    @abstractmethod
    def _link_up(self, url: str, runtime_dir: str | None) -> None:
        """Have what it and all that are prepared from it will share; nothing is opened yet."""
