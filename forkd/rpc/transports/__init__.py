"""How calls travel: which transport a name or a URL means, and what each has for a caller and for a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from forkd.errors import ForkdError
from forkd.rpc import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkd.rpc.dispatcher import Dispatcher
    from forkd.rpc.errors import RpcError
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.wire import Message
    from forkd.service import Service


class Transport(Protocol):
    """A process's way to the workers of one topic; any thread may use it. `deadline` is a monotonic instant or inf."""

    def ask(self, call: Outgoing, deadline: float) -> Message:
        """Return the answer, with a `result` or an `error`; of a cast as soon as a worker has accepted it.

        Raise `RpcError` where no worker answered, and `Unsendable`.
        """

    def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """Return what each worker of the topic answered, or why it did not, by its identity."""

    def close(self) -> None:
        """End what is open; callers that wait raise `WorkerLost`."""

    def forget(self) -> None:
        """Close a parent's descriptors in its fork: no word to anyone, no lock, which a fork may have cut off."""


class CallbackTransport(Transport, Protocol):
    """A transport with a thread of its own, which need not be waited for: so tasks of an event loop can use it."""

    def begin(self, call: Outgoing, deadline: float, done: Callable[[Message | RpcError], None]) -> Callable[[], None]:
        """Send a call and return at once what gives it up, which never blocks either.

        `done` gets what `ask` would return or raise: once, from any thread, which it does not hold up; nothing need
        come after the call was given up. Raise `Unsendable`.
        """

    def begin_all(
        self, call: Outgoing, deadline: float, done: Callable[[dict[str, Message | RpcError] | RpcError], None]
    ) -> Callable[[], None]:
        """Do the same with what `ask_all` would return or raise."""


class AsyncTransport(Protocol):
    """An event loop's way to the workers of one topic, as `Transport`; a task that is cancelled gives its call up."""

    async def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `Transport`."""

    async def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `Transport`."""

    async def close(self) -> None:
        """As in `Transport`."""

    def forget(self) -> None:
        """Close the descriptors: the loop is closed, or the process is a fork of the one that the loop ran in."""


class Intake(Protocol):
    """A worker's way to its callers."""

    def start(self) -> None:
        """Take calls from now on."""

    def stop(self, graceful: bool) -> None:
        """Take nothing more; graceful: return when all that began is answered, else cut every connection.

        A second call, from another thread and not graceful, ends a first one that takes too long.
        """


def transport(url: str, topic: str, runtime_dir: str | None) -> Transport:
    """Return a new way to the workers of `topic`, which connects when it is first used.

    Raise `ForkdError` where `url` is no transport's.
    """
    if url == "local":
        from forkd.rpc.transports.local.client import LocalClient  # lazy: each process loads the transport it uses

        return LocalClient(topic, topics.directory(topic, runtime_dir))
    raise _unknown(url, topic)


def async_transport(url: str, topic: str, runtime_dir: str | None) -> AsyncTransport:
    """Return the same for one event loop, which need not run yet; that of a `CallbackTransport` is a `CalledBack`."""
    if url == "local":
        from forkd.rpc.transports.local.async_client import AsyncLocalClient  # lazy: as above

        return AsyncLocalClient(topic, topics.directory(topic, runtime_dir))
    raise _unknown(url, topic)


def intake(url: str, topic: str, service: Service, dispatcher: Dispatcher, allow: Sequence[str] = ()) -> Intake:
    """Return a worker's intake of calls for `topic`, not started; raise `ForkdError` where `url` is no transport's.

    `allow`: who else than root and the worker's own user may call, where that is for the worker to say.
    """
    if url == "local":
        from forkd.rpc.transports.local.server import LocalServer  # lazy: as above

        return LocalServer(service, topic, dispatcher, allow)
    raise _unknown(url, topic)


def load(url: str) -> None:
    """Import what `intake` needs for a transport: done before a fork, its workers need not."""
    if url == "local":
        import forkd.rpc.transports.local.server  # noqa: F401 -- as said  # lazy: as above


def _unknown(url: str, topic: str) -> ForkdError:
    # What follows the scheme may hold a password.
    return ForkdError(f"{topic}: transport {url.partition(':')[0]!r:.40} is not supported; there is: local")
