"""Calls the methods of a topic from any process: a script, a command, a worker of either engine. Starts no thread."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.rpc.prepared import Prepared
from forkd.rpc.transports import transport as transport_of
from forkd.rpc.wire import Unsendable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Client(Prepared):
    """A caller of one topic. Any number of threads may share it; a forked process gets connections of its own.

    `transport` is `local` (None: the same) or a broker's URL, `amqp://…`; `timeout` is each call's deadline in seconds,
    None for no deadline; `runtime_dir` is the launcher's, by default `$FORKD_RUNTIME_DIR` or the directory that it
    would choose itself; exceptions of `allowed_exceptions` are raised as themselves where a method raised them, and not
    as `RemoteError`.
    """

    def call(self, method: str, /, **args: Any) -> Any:
        """Return what the method returns. Arguments and result are what msgpack knows; a tuple arrives as a list.

        Datetimes, dates, UUIDs and Decimals travel, too. Raise `RemoteError` where the method raised, at once
        `NoSuchTopic`, `NoSuchMethod`, `BadArguments` or `Busy` where it was not called, `WorkerLost` as soon as its
        worker is gone, `Timeout` at the deadline.
        """
        return self._ask(method, args, cast=False)

    def cast(self, method: str, /, **args: Any) -> None:
        """Have the method called and return as soon as a worker has accepted to; what it comes to is for the log there.

        Raise what `call` raises where it is not accepted.
        """
        self._ask(method, args, cast=True)

    def fanout(self, method: str, /, **args: Any) -> dict[str, Any]:
        """Call the method in every worker of the topic; return what each returned, by `HOST/SERVICE/SLOT/INCARNATION`.

        Where one has no result, the exception that `call` would raise stands in its place. A slot whose worker is not
        ready by the deadline is a `Timeout`, by the path of its socket. Raise `NoSuchTopic` where nobody serves it.
        """
        prepared = self._prepared
        try:
            answers = self._link.transport.ask_all(prepared.outgoing(method, args), prepared.deadline())
        except Unsendable as error:
            raise prepared.unsendable(method, error) from None
        return {worker: prepared.outcome(answer) for worker, answer in answers.items()}

    def close(self) -> None:
        """Close the connections; calls in flight raise `WorkerLost`. The next call opens new ones."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _link_up(self, url: str, runtime_dir: str | None) -> None:
        self._link = _Link(url, self.topic, runtime_dir)

    def _ask(self, method: str, args: dict[str, Any], *, cast: bool) -> Any:
        prepared = self._prepared
        try:
            answer = self._link.transport.ask(prepared.outgoing(method, args, cast=cast), prepared.deadline())
        except Unsendable as error:
            raise prepared.unsendable(method, error) from None
        return prepared.result(answer)


class _Link:
    """The transport of a client and of all that were prepared from it, for this process."""

    def __init__(self, url: str, topic: str, runtime_dir: str | None) -> None:
        self._make = partial(transport_of, url, topic, runtime_dir)
        self.transport = self._make()
        _links.add(self)

    def close(self) -> None:
        """Close it, and have another one for what may still come."""
        old, self.transport = self.transport, self._make()
        old.close()

    def begin_anew(self) -> None:
        """In a fork: give the copies of the parent's descriptors back. Its connections are its own and stay."""
        old, self.transport = self.transport, self._make()
        old.forget()


_links: weakref.WeakSet[_Link] = weakref.WeakSet()


def _begin_anew() -> None:
    for link in list(_links):
        link.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
