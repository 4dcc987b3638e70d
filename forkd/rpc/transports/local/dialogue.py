"""What a client knows of one worker by what that one says on their connection; who waits, and how, is not known here.

A call's answer, or the error in its place, is given to whoever has been named for it, once.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forkd.errors import ProtocolError
from forkd.rpc.errors import Moved, NotAllowed, RpcError, WorkerLost
from forkd.rpc.transports.local.unsent import Unsent
from forkd.rpc.wire import PROTOCOL, Frames

if TYPE_CHECKING:
    from forkd.rpc.wire import Message

INTERRUPTED = "a signal's handler raised while it was read or written"
_READ = 16384  # to make room for more would cost every answer, and few are longer

Take = Callable[[Any], None]
"""Takes the message of an answer, or an `RpcError`; never blocks nor raises."""


class Dialogue:
    """One stream. It is `usable` from the worker's hello until its bye or its end, and never again."""

    def __init__(self, sock: socket.socket, slot: str) -> None:
        """Take over a connected, non-blocking socket; `slot` is the path of the worker's socket."""
        self.sock = sock
        self.slot = slot
        self.name = slot  # the worker's identity once it has said hello
        self.idempotent: frozenset[str] = frozenset()
        self.usable = False
        self.crowded = False  # half of the worker's room is taken: connections that can be spared are not for it
        self.over = False  # takes no calls any more; to be replaced
        self.refusal: RpcError | None = None
        self.pending: dict[int, Take] = {}  # each step on it is one of the interpreter's, so no lock guards it
        self.unsent = Unsent(sock)
        self._frames = Frames()
        self._ended = False  # every call without an answer was never begun
        self._last = 0

    def rank(self) -> tuple[int, int]:
        """Return what the next call prefers the smallest of: calls in flight, then how recently one was sent."""
        return len(self.pending), self._last

    def serves(self, worker: int | str | None) -> bool:
        """Tell whether a call for this worker, of `Outgoing`, may be sent here; of a slot only the number is told."""
        return worker is None or isinstance(worker, int) or f"{self.name}/".startswith(f"{worker}/")

    def expect(self, number: int, take: Take) -> None:
        """Have the answer to a call, which is sent next, given to `take`; raise `Moved` where none can be sent."""
        self.pending[number] = take
        if self.over:  # whoever ends the connection says so before it looks who waits
            self.pending.pop(number, None)
            raise Moved(self.name)
        self._last = number

    def checked(self, answer: Message) -> Message:
        """Return the answer; raise `Moved` where it is that the worker has not begun the call."""
        error: Any = answer.get("error")
        if isinstance(error, list) and error[:1] == ["moved"]:
            self.retire()
            raise Moved(self.name)
        return answer

    def glance(self) -> None:
        """Read what has come, if nobody else does; never blocks."""
        self.read()

    def read(self, flags: int = socket.MSG_DONTWAIT) -> None:
        """Deliver what has come, received with these flags; never blocks unless they let it.

        Raise only what a signal's handler raises: then some of what came may be lost, and the connection with it.
        """
        try:
            self._read(flags)
        except BaseException:
            self.break_off(INTERRUPTED)
            raise

    def retire(self) -> None:
        """Take no further call: the worker drains."""
        self.usable, self.over = False, True

    def lose(self, why: str) -> None:
        """End every call in flight."""
        self.retire()
        for number in list(self.pending):
            self._give(
                number, Moved(self.name) if self._ended else WorkerLost(f"{self.name}: {why}; the call may have run")
            )

    def close(self) -> None:
        """End the connection; callers that wait raise `WorkerLost`."""
        self.break_off("the client was closed")
        self.discard()

    def break_off(self, why: str) -> None:
        """Have nothing more read or written, and end every call in flight."""
        self.lose(why)  # first: whoever reads would take the end for the worker's
        with contextlib.suppress(OSError):  # it has ended already
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits to read; closing alone would not

    def forget(self) -> None:
        """Close a parent's descriptor in its fork: no word to the worker, no lock, which a fork may have cut off."""
        self.sock.close()

    def discard(self) -> None:
        """Give the descriptor back if the connection is over and nobody uses it: the last who does comes here, too."""
        if self.over and not self.pending:
            self.sock.close()

    def give_back(self) -> None:
        """Take no further call, and have those that the worker never got all of sent elsewhere."""
        self.retire()
        for number in self.unsent.give_up():
            self._give(number, Moved(self.name))

    def _read(self, flags: int) -> None:
        try:
            data = self.sock.recv(_READ, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose("the worker is gone")
            return
        try:
            for message in self._frames.feed(data):
                self._take_in(message)
        except ProtocolError as error:
            self.lose(str(error))

    def _take_in(self, message: Message) -> None:
        number = message.get("id")
        if message["type"] == "answer" and type(number) is int:  # first and by itself: most are, and a match costs more
            self._give(number, message)
            return
        match message:
            case {"type": "hello", "protocol": int(protocol), "worker": str(name), "idempotent": list(names)} if (
                protocol == PROTOCOL
            ):
                self.name, self.idempotent = name, frozenset(map(str, names))
                self.crowded = message.get("crowded") is True
                self.usable = not self.over
            case {"type": "hello"}:
                self.refusal = RpcError(f"{self.slot}: the worker speaks RPC protocol {message.get('protocol')!r:.20}")
                self.lose(str(self.refusal))
            case {"type": "refused"}:
                self.refusal = NotAllowed(f"{self.slot}: {message.get('message')!s:.500}")
                self.lose(str(self.refusal))
            case {"type": "bye"}:
                self.retire()
            case {"type": "end"}:
                self._ended = True
                self.lose("the worker has drained")

    def _give(self, number: int, found: Any) -> None:
        take = self.pending.pop(number, None)
        if take is not None:  # else its caller has given up
            take(found)
