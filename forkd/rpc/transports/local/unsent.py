"""The calls of a client that its connection has not taken yet; many that wait together leave together."""

from __future__ import annotations

from collections import deque
from socket import MSG_DONTWAIT
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_TOGETHER = 65536  # bytes; of what leaves together at most the last frame goes beyond


class Unsent:
    """Any thread may `add` and `remove`, each one step of the interpreter's; one at a time may `write`."""

    def __init__(self, sock: socket.socket) -> None:
        """Write to a stream socket, which is never waited for."""
        self._sock = sock
        self._order: deque[int] = deque()  # of those that wait, and of some that were removed
        self._frames: dict[int, bytes] = {}
        self._leaving: bytes | memoryview = b""  # what of the frames that leave is not written
        self._ends: list[tuple[int, int]] = []  # the number of each of those, and how much was left behind its end

    def __bool__(self) -> bool:
        return bool(self._leaving or self._order)

    def add(self, number: int, frame: bytes) -> None:
        """Have a call's frame follow those that wait."""
        self._frames[number] = frame
        self._order.append(number)

    def remove(self, number: int) -> None:
        """Send a call's frame no more, unless a part of it may have left: the rest must follow."""
        self._frames.pop(number, None)

    def write(self) -> bool:
        """Write what the socket takes and return whether that is all.

        Raise `OSError` where it takes nothing any more.
        """
        while self._leaving or (self._order and self._gather()):
            try:
                sent = self._sock.send(self._leaving, MSG_DONTWAIT)
            except BlockingIOError:
                return False
            self._leaving = memoryview(self._leaving)[sent:] if sent < len(self._leaving) else b""
        return True

    def numbers(self) -> list[int]:
        """Return the numbers of the calls that wait here, though it be for a part of them."""
        left = len(self._leaving)
        return [number for number, behind in self._ends if left > behind] + list(self._frames)

    def give_up(self) -> list[int]:
        """Write nothing of all that any more; return the numbers, as above."""
        numbers = self.numbers()
        self._leaving, self._ends = b"", []
        for number in numbers:
            self.remove(number)
        return numbers

    def _gather(self) -> bool:
        """Take the next frames that are to leave; return whether there is one."""
        parts, ends, size = [], [], 0
        while self._order and size < _TOGETHER:
            number = self._order.popleft()
            frame = self._frames.pop(number, None)
            if frame is not None:
                parts.append(frame)
                size += len(frame)
                ends.append((number, size))
        self._leaving = parts[0] if len(parts) == 1 else b"".join(parts)
        self._ends = [(number, size - end) for number, end in ends]
        return bool(parts)
