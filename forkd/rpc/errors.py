"""What can become of a call besides its result; each class is one cause that a caller may want to tell apart."""

from __future__ import annotations

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


class NotAllowed(RpcError):
    """The topic is not for this process to call."""


class Busy(RpcError):
    """The worker runs as many calls as it may, and as many again wait; the method was not called."""


class WorkerLost(RpcError):
    """The worker ended with the call in flight: whether the method ran, and how far, nobody knows."""


class Timeout(RpcError, TimeoutError):
    """The deadline passed without an answer; a method that had begun by then runs on."""


class Moved(RpcError):
    """The worker drains and has not begun the call: it may be sent to another. A transport keeps this to itself."""


class Failure(NamedTuple):
    """An error as it travels: its kind, a sentence, and of a `remote` one the exception's class and traceback."""

    kind: str
    message: str
    class_name: str = ""
    traceback: str = ""


_KINDS: dict[str, type[RpcError]] = {
    "no-such-method": NoSuchMethod,
    "bad-arguments": BadArguments,
    "wrong-version": WrongVersion,
    "busy": Busy,
    "late": Timeout,
    "moved": Moved,
}


def from_failure(value: Any) -> RpcError:
    """Return the exception of a failure as it came over the wire; a kind of a later protocol is a plain RpcError."""
    if not isinstance(value, list) or len(value) != len(Failure._fields) or not all(isinstance(x, str) for x in value):
        return RpcError(f"the worker sent a malformed error: {value!r:.200}")
    failure = Failure(*value)
    if failure.kind == "remote":
        return RemoteError(failure.class_name, failure.message, failure.traceback)
    return _KINDS.get(failure.kind, RpcError)(failure.message)
