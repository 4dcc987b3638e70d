"""A call as its caller makes it: how it is prepared, what of it travels, what its answer comes to; it sends none."""

from __future__ import annotations

import math
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd import log_context
from forkd.errors import ForkdError
from forkd.request_id import RequestIds
from forkd.rpc.errors import BadArguments, RpcError, from_failure

if TYPE_CHECKING:
    from forkd.rpc.wire import Message

_ids = [RequestIds()]  # one, of this process
_LONGEST = 1e9  # seconds, of a deadline: no lock waits for longer
_WORKER = re.compile(r"[^/]+/[^/]+/[0-9]{1,9}(/[0-9]{1,19})?")
_MOST_SLOTS = 10**9
_LONGEST_NAME = 170  # bytes of a worker's; with what a broker puts around it, 255


class Outgoing(NamedTuple):
    """A call to be sent.

    `worker`: None for any, else the slot of one of this host, `host/service/slot`, or the same with `/incarnation`.
    """

    method: str
    args: dict[str, Any]
    context: dict[str, Any]
    version: str | None
    worker: int | str | None
    cast: bool

    def message(self, number: int, deadline: float) -> Message:
        """Return what travels; `deadline` is monotonic."""
        message: Message = {
            "type": "call",
            "id": number,
            "method": self.method,
            "args": self.args,
            "context": self.context,
        }
        if deadline != math.inf:
            message["seconds"] = max(0.0, deadline - time.monotonic())
        if self.version is not None:
            message["version"] = self.version
        if self.cast:
            message["cast"] = True
        return message


class Preparation(NamedTuple):
    """How the calls of a client are made; `timeout` in seconds, None for no deadline."""

    topic: str
    timeout: float | None = 30.0
    version: str | None = None
    worker: int | str | None = None
    context: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    allowed: tuple[type[Exception], ...] = ()

    def check(self) -> Preparation:
        """Return itself; raise `ForkdError` for what could never be meant."""
        allowed: tuple[Any, ...] = self.allowed
        for name, value, is_right, expected in (
            ("timeout", self.timeout, _is_timeout(self.timeout), "more than 0 seconds"),
            ("version", self.version, isinstance(self.version, str | None), 'text such as "1.2"'),
            ("worker", self.worker, _is_worker(self.worker), "a slot of this host, or HOST/SERVICE/SLOT[/INCARNATION]"),
            ("context", self.context, _is_context(self.context), "a dict with names that are text"),
            ("allowed_exceptions", allowed, all(map(_is_exception, allowed)), "classes of exceptions"),
        ):
            if not is_right:
                raise ForkdError(f"{self.topic}: {name}: expected {expected}, got {value!r:.200}")
        return self

    def deadline(self) -> float:
        """Return the monotonic instant at which a call that is made now is given up."""
        seconds = _LONGEST if self.timeout is None else self.timeout
        return time.monotonic() + seconds if seconds < _LONGEST else math.inf

    def outgoing(self, method: str, args: dict[str, Any], *, cast: bool = False) -> Outgoing:
        """Return the call; its context is that of the call that this thread is running, and what was prepared."""
        if not isinstance(method, str):
            raise BadArguments(f"{self.topic}: a method is called by its name, which is text and not {method!r:.80}")
        context = {**log_context.current(), **self.context}
        if "request_id" not in context:
            context["request_id"] = _ids[0].new()
        return Outgoing(method, args, context, self.version, self.worker, cast)

    def result(self, answer: Message) -> Any:
        """Return what an answer holds, or raise it."""
        if "error" in answer:
            raise from_failure(answer["error"], self.allowed)
        return answer.get("result")

    def outcome(self, answer: Message | RpcError) -> Any:
        """Return what an answer holds, a result or an exception; or why there is none."""
        if isinstance(answer, RpcError):
            return answer
        return from_failure(answer["error"], self.allowed) if "error" in answer else answer.get("result")

    def unsendable(self, method: str, why: Exception) -> BadArguments:
        """Return the error of a call whose arguments, or whose context, cannot be sent."""
        return BadArguments(f"{self.topic}.{method}: the arguments cannot be sent: {why}")


def _is_timeout(timeout: object) -> bool:
    return timeout is None or (isinstance(timeout, int | float) and timeout > 0)


def _is_context(context: object) -> bool:
    return isinstance(context, dict) and all(isinstance(name, str) for name in context)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _is_worker(worker: object) -> bool:
    if isinstance(worker, int):
        return not isinstance(worker, bool) and 0 <= worker < _MOST_SLOTS
    if isinstance(worker, str):
        known = worker.isprintable() and _WORKER.fullmatch(worker) is not None
        return known and len(worker.encode()) <= _LONGEST_NAME
    return worker is None


def _begin_anew() -> None:
    """In a fork: its ids are not to be its parent's."""
    _ids[0] = RequestIds()


os.register_at_fork(after_in_child=_begin_anew)
