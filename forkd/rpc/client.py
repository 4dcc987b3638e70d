"""Calls the methods of a topic from any process: a script, a command, a worker of either engine. Starts no thread."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.rpc import topics
from forkd.rpc.errors import BadArguments, from_failure
from forkd.rpc.transports.local.client import LocalClient
from forkd.rpc.wire import Unsendable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Client:
    """A caller of one topic. Any number of threads may share it; a forked process gets connections of its own.

    `transport` is `local` (None: the same); `timeout` is each call's deadline in seconds, None for no deadline;
    `runtime_dir` is the launcher's, by default `$FORKD_RUNTIME_DIR` or the directory that it would choose itself.
    """

    def __init__(
        self, topic: str, transport: str | None = None, timeout: float | None = 30.0, runtime_dir: str | None = None
    ) -> None:
        if transport not in (None, "local"):
            raise ForkdError(f"{topic}: transport {transport!r} is not supported; there is: local")
        if timeout is not None and not timeout > 0:
            raise ForkdError(f"{topic}: timeout: expected more than 0 seconds, got {timeout!r}")
        self.topic = topic
        self.timeout = timeout
        self._directory = topics.directory(topic, runtime_dir)
        self._transports: dict[int, LocalClient] = {}  # one, by the process that it belongs to

    def call(self, method: str, /, **args: Any) -> Any:
        """Return what the method returns. Arguments and result are what msgpack knows; a tuple arrives as a list.

        Raise `RemoteError` where the method raised, at once `NoSuchTopic`, `NoSuchMethod`, `BadArguments` or `Busy`
        where it was not called, `WorkerLost` as soon as its worker is gone, `Timeout` at the deadline.
        """
        if not isinstance(method, str):
            raise BadArguments(f"{self.topic}: a method is called by its name, which is text and not {method!r:.80}")
        deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        try:
            answer = self._transport().call(method, args, deadline)
        except Unsendable as error:
            raise BadArguments(f"{self.topic}.{method}: the arguments cannot be sent: {error}") from None
        if "error" in answer:
            raise from_failure(answer["error"])
        return answer.get("result")

    def close(self) -> None:
        """Close the connections; calls in flight raise `WorkerLost`. The next call opens new ones."""
        transport = self._transports.pop(os.getpid(), None)
        if transport is not None:
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _transport(self) -> LocalClient:
        transport = self._transports.get(os.getpid())
        return transport or self._connect()

    def _connect(self) -> LocalClient:
        """Make this process's transport; without a lock, for one that was held at a fork would never be freed."""
        pid = os.getpid()
        mine = self._transports.setdefault(pid, LocalClient(self.topic, self._directory))
        for other in [key for key in self._transports if key != pid]:
            # The parent's: give the copies of its descriptors back. Its connections are its own and stay.
            inherited = self._transports.pop(other, None)
            if inherited is not None:
                inherited.forget()
        return mine
