"""What can become of a call besides its result; each class is one cause that a caller may want to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from forkd.errors import ForkdError


class RpcError(ForkdError):
    """A remote call that has no result; the base of all below."""


class RemoteError(RpcError):
    """The method raised: `class_name`, `message` and `traceback` are the remote exception's, as text."""

    def __init__(self, class_name: str, message: str, traceback: str = "") -> None:
        super().__init__(class_name, message, traceback)  # all of them, so that it can be pickled
        self.class_name = class_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.class_name}: {self.message}" if self.message else self.class_name


class NoSuchTopic(RpcError):
    """No service of this host serves the topic."""


class NoSuchMethod(RpcError):
    """The server has no public method of that name."""


class BadArguments(RpcError):
    """The method does not take these arguments, or they cannot be sent; it was not called."""


class WrongVersion(RpcError):
    """The server's version does not serve a caller of the version that the call asks for."""


class NoSuchWorker(RpcError):
    """The topic has no worker of the slot or the identity that the call was for; the method was not called."""


class NotAllowed(RpcError):
    """The topic is not for this process to call."""


class Busy(RpcError):
    """The worker runs as many calls as it may, and as many wait as may; the method was not called."""


class BrokerUnavailable(RpcError):
    """No broker can be reached, or none that wants us, or it takes no messages; the method was not called."""


class WorkerLost(RpcError):
    """The worker ended with the call in flight: whether the method ran, and how far, nobody knows."""


class Timeout(RpcError, TimeoutError):
    """The deadline passed without an answer; a method that had begun by then runs on."""


class Moved(RpcError):
    """The worker drains and has not begun the call: it may be sent to another. A transport keeps this to itself."""


class Again(RpcError):
    """The worker was lost with the call, which is idempotent. A transport keeps this to itself, as above."""


class Failure(NamedTuple):
    """An error as it travels: its kind, a sentence, and of a `remote` one what the exception was.

    That is: the name of its class and of that one's module, the traceback, and its arguments, as far as they can be
    sent.
    """

    kind: str
    message: str
    class_name: str = ""
    module: str = ""
    traceback: str = ""
    args: Sequence[Any] = ()


_KINDS: dict[str, type[RpcError]] = {
    "no-such-method": NoSuchMethod,
    "bad-arguments": BadArguments,
    "wrong-version": WrongVersion,
    "busy": Busy,
    "late": Timeout,
    "lost": WorkerLost,
    "no-such-worker": NoSuchWorker,
    "moved": Moved,
    "again": Again,
}


def from_failure(value: Any, allowed: Sequence[type[Exception]] = ()) -> Exception:
    """Return the exception of a failure as it came over the wire; a kind of a later protocol is a plain RpcError.

    One of a class that is `allowed` is made anew from its arguments, with the `RemoteError` as its cause; where its
    constructor does not take them, it stays that.
    """
    failure = _failure(value)
    if failure is None:
        return RpcError(f"the worker sent a malformed error: {value!r:.200}")
    if failure.kind != "remote":
        return _KINDS.get(failure.kind, RpcError)(failure.message)
    error = RemoteError(failure.class_name, failure.message, failure.traceback)
    for cls in allowed:
        if (cls.__module__, cls.__qualname__) == (failure.module, failure.class_name):
            return _made_anew(cls, failure.args, error)
    return error


def _failure(value: Any) -> Failure | None:
    if not isinstance(value, list) or len(value) != len(Failure._fields):
        return None
    *texts, args = value
    return Failure(*value) if all(isinstance(x, str) for x in texts) and isinstance(args, list) else None


def _made_anew(cls: type[Exception], args: Sequence[Any], error: RemoteError) -> Exception:
    try:
        made = cls(*args)
    except Exception:  # noqa: BLE001 -- its own constructor wants something else than its arguments
        return error
    made.__cause__ = error
    return made
