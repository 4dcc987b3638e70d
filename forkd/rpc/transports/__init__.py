"""How calls travel: which transport a name or a URL means, and what each has for a caller and for a worker."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from forkd.errors import ForkdError
from forkd.rpc import topics
from forkd.rpc.transports.amqp.address import EXPECTED, is_address, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from forkd.rpc.dispatcher import Dispatcher
    from forkd.rpc.errors import RpcError
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.amqp.address import Address
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
    if is_address(url):
        client: Transport = _load("client", topic).AmqpClient(topics.check(topic), _address(url, topic))
        return client
    raise _unknown(topic)


def async_transport(url: str, topic: str, runtime_dir: str | None) -> AsyncTransport:
    """Return the same for one event loop, which need not run yet."""
    if url == "local":
        from forkd.rpc.transports.local.async_client import AsyncLocalClient  # lazy: as above

        return AsyncLocalClient(topic, topics.directory(topic, runtime_dir))
    if is_address(url):
        client: AsyncTransport = _load("async_client", topic).AsyncAmqpClient(topics.check(topic), _address(url, topic))
        return client
    raise _unknown(topic)


def intake(url: str, topic: str, service: Service, dispatcher: Dispatcher, allow: Sequence[str] = ()) -> Intake:
    """Return a worker's intake of calls for `topic`, not started; raise `ForkdError` where `url` is no transport's.

    `allow`: who else than root and the worker's own user may call, where that is for the worker to say.
    """
    if url == "local":
        from forkd.rpc.transports.local.server import LocalServer  # lazy: as above

        return LocalServer(service, topic, dispatcher, allow)
    if is_address(url):
        address = _address(url, topic)
        server: Intake = _load("server", topic).AmqpServer(service, topics.check(topic), address, dispatcher)
        return server
    raise _unknown(topic)


def load(url: str) -> None:
    """Import what `intake` needs for a transport: done before a fork, its workers need not."""
    if url == "local":
        import forkd.rpc.transports.local.server  # noqa: F401 -- as said  # lazy: as above
    elif is_address(url):
        _load("server", "rpc")


def _address(url: str, topic: str) -> Address:
    try:
        return parse(url)
    except ForkdError as error:
        raise ForkdError(f"{topic}: transport: {error}") from None


def _load(side: str, topic: str) -> ModuleType:
    """Return one side of the amqp transport; raise `ForkdError` where what it stands on is not installed."""
    try:
        return importlib.import_module(f"forkd.rpc.transports.amqp.{side}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("amqp", "kombu"):
            raise
        raise ForkdError(f"{topic}: the amqp transport needs kombu: pip install 'forkd[amqp]'") from None


def _unknown(topic: str) -> ForkdError:
    # What it is stays unsaid: it may be an address with a password in it, and a slip of the pen in its scheme.
    return ForkdError(f"{topic}: transport: expected local, or {EXPECTED}")
