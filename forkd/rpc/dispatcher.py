"""Runs calls in the threads of a service's group, whatever transport brought them; opens no socket.

The rules, in this order:
- what cannot be called (no such method, wrong arguments, wrong version) is refused at once, however full the worker is;
- a draining dispatcher accepts nothing: what waits and what still comes is refused as moved;
- a call runs as soon as the group has a thread for it; as many may wait as the server says, and the next is refused
  as busy;
- a call whose deadline passed while it waited is not begun;
- a cast is answered when it is accepted, and from then on it is this worker's: it runs, though late or in a drain.
Every call gets exactly one answer.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.crews import crews_of
from forkd.errors import ForkdError
from forkd.log_context import set_current
from forkd.overruns import watched
from forkd.rpc.answers import accepted, failed, raised, returned
from forkd.rpc.errors import BadArguments, Failure
from forkd.rpc.methods import Method, public_methods
from forkd.rpc.wire import Request, Unsendable
from forkd.threadgroup import Stopped

if TYPE_CHECKING:
    from forkd.crews import Crew
    from forkd.rpc.server import Server
    from forkd.service import Service

_log = logging.getLogger("forkd.rpc")

_LINGER = 0.05  # seconds a thread waits for its next call: long against a caller's turnaround, short for the group
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MOVED = Failure("moved", "the worker drains; the call was not begun")
_LATE = Failure("late", "its deadline passed before it could begin")
_NEVER = math.inf
_NO_CONTEXT: dict[str, Any] = {}


class _Call(NamedTuple):
    """A call that was accepted; `expires` is a monotonic instant."""

    request: Request
    method: Method
    answer: Callable[[bytes], None]
    expires: float


class Dispatcher:
    """Holds at most as many running calls as the group has threads, and as many waiting ones as the server says."""

    def __init__(self, server: Server, service: Service, base: type) -> None:
        if not _VERSION.fullmatch(server.version):
            raise ForkdError(f"{server.topic}: version: expected major.minor, got {server.version!r}")
        self._methods = public_methods(server, base)
        self._server = server
        self._group = service.thread_group
        self._board = service.board
        self._overruns = watched(service, "call")
        most_waiting = service.thread_group.limit if server.call_queue is None else server.call_queue
        self.crew: Crew[_Call] = crews_of(service.thread_group.concurrency)(
            service.thread_group, self._run, most_waiting
        )
        self._lock = threading.Lock()  # held for a few instructions; guards all below
        self._open = 0  # calls without an answer
        self._draining = False
        self._drained = self._group.event()

    @property
    def method_names(self) -> list[str]:
        """The names that can be called, sorted."""
        return sorted(self._methods)

    @property
    def idempotent(self) -> list[str]:
        """The names of those that may run twice for one call, sorted."""
        return sorted(name for name, method in self._methods.items() if method.idempotent)

    def start(self) -> None:
        """Begin to watch over calls."""
        if self._overruns is not None:
            self._overruns.start()

    def submit(self, request: Request, answer: Callable[[bytes], None]) -> None:
        """Take a call over; `answer` gets the frame of its answer, once, from any thread. Never blocks.

        `answer` must not block either, nor raise.
        """
        method = self._methods.get(request.method)
        refusal = self._refusal(request, method)
        if refusal is None and method is not None:
            expires = _NEVER if request.cast or request.seconds is None else time.monotonic() + request.seconds
            refusal = self._accept(_Call(request, method, _drop if request.cast else answer, expires))
        if refusal is not None:
            answer(failed(request.id, refusal))
        elif request.cast:
            answer(accepted(request.id))

    def drain(self) -> None:
        """Accept no further call, and refuse those that wait as moved, but casts; return at once."""
        with self._lock:
            self._draining = True
        for call in self.crew.withdraw(lambda call: not call.request.cast):
            call.answer(failed(call.request.id, _MOVED))
            self._close_call()
        self.crew.dismiss()
        self._end_drain()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a draining dispatcher has answered every call it began; return whether it has."""
        return self._drained.wait(timeout)

    def abandon(self) -> None:
        """End every `wait`: nobody is left to take an answer."""
        self._drained.set()

    def _refusal(self, request: Request, method: Method | None) -> Failure | None:
        if method is None:
            known = ", ".join(self.method_names)
            text = f"{self._server.topic} has no method {request.method!r:.80}; it has: {known or 'none'}"
            return Failure("no-such-method", text)
        if request.version is not None and not _serves(self._server.version, request.version):
            text = f"{self._server.topic} serves version {self._server.version}, not {request.version!r:.40}"
            return Failure("wrong-version", text)
        try:
            method.check(request.args)
        except BadArguments as error:
            return Failure("bad-arguments", f"{self._server.topic}.{request.method}: {error}")
        return None

    def _accept(self, call: _Call) -> Failure | None:
        with self._lock:
            if self._draining:
                return _MOVED
            self._open += 1
        if self.crew.submit(call):
            return None
        text = f"{self._server.topic}: {self._open - 1} calls are in hand, {self.crew.waiting} of them waiting"
        self._close_call()
        return Failure("busy", text)

    def _run(self, call: _Call) -> None:
        try:
            self._perform(call)
        finally:
            self._close_call()

    def _perform(self, call: _Call) -> None:
        started = time.monotonic()
        if started > call.expires:
            call.answer(failed(call.request.id, _LATE))
            return
        row = self._board.row()
        row.started()
        overruns = self._overruns
        number = 0 if overruns is None else overruns.begin(f"{self._server.topic}.{call.request.method}")
        outcome: Any = None
        has_failed = True
        set_current(call.request.context)
        try:
            outcome, has_failed = self._outcome(call)
        finally:
            set_current(_NO_CONTEXT)
            row.finished(time.monotonic() - started, has_failed)
            if overruns is not None:
                overruns.end(number)
        call.answer(self._answer(call, outcome, has_failed))

    def _outcome(self, call: _Call) -> tuple[Any, bool]:
        """Return the result and False, or the failure and True."""
        request = call.request
        try:
            if call.method.wants_context:
                return call.method.fn(**request.args, context=request.context), False
            return call.method.fn(**request.args), False
        except BaseException as error:  # whatever a method raises is its caller's to know
            failure = raised(error, with_traceback=self._server.send_tracebacks)
            if _ends_thread(error):
                # Without an answer the call would count as never begun once the worker has drained.
                call.answer(failed(request.id, failure))
                raise
            self._log_failure(request.method)
            return failure, True

    def _log_failure(self, method: str) -> None:
        try:
            _log.exception("%s.%s failed", self._server.topic, method)
        except BaseException:  # noqa: BLE001 -- its text is made by the user's code, too
            _log.error("%s.%s failed; its traceback cannot be had", self._server.topic, method)

    def _answer(self, call: _Call, outcome: Any, has_failed: bool) -> bytes:
        number = call.request.id
        if has_failed:
            return failed(number, outcome)
        try:
            return returned(number, outcome)
        except Unsendable as error:
            text = f"the result of {self._server.topic}.{call.request.method} cannot be sent: {error}"
            _log.error(text)
            return failed(number, Failure("remote", text, "Unsendable", args=[text]))

    def _close_call(self) -> None:
        with self._lock:
            self._open -= 1
        if self._draining:
            self._end_drain()

    def _end_drain(self) -> None:
        if not self._open:
            self._drained.set()


def _drop(answer: bytes) -> None:
    """Take the answer that nobody waits for; a failure was logged."""


def _ends_thread(error: BaseException) -> bool:
    """Tell whether somebody stopped the thread, or killed a green one: nothing then that its method came to."""
    greenlet = sys.modules.get("greenlet")  # only processes with green threads import it
    return isinstance(error, Stopped) or (greenlet is not None and isinstance(error, greenlet.GreenletExit))


def _serves(ours: str, wanted: str) -> bool:
    """Tell whether a server of version `ours` serves a caller of `wanted`: the same major, at least the minor."""
    if not _VERSION.fullmatch(wanted):
        return False
    have, want = ([int(part) for part in version.split(".")] for version in (ours, wanted))
    return have[0] == want[0] and have[1:] >= want[1:]
