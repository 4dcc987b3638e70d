"""A connection to a broker that the tasks of an event loop share: the loop's callbacks read and write."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

from forkd.rpc.transports.amqp.dialogue import Dialogue
from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    from forkd.rpc.transports.amqp.link import Link
    from forkd.rpc.transports.amqp.notes import Box

_FAREWELL = 1.0  # seconds for the broker to confirm that we go


class AsyncConnection:
    """A `dialogue`, and who waits for what comes of it; to be used in the loop that it was made in."""

    def __init__(self, link: Link, heartbeat: int) -> None:
        """As `Dialogue`."""
        self._boxes = _Boxes()
        self.dialogue = Dialogue(link, heartbeat, self._boxes)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(link.socket, self._on_readable)
        self._timer: asyncio.TimerHandle | None = None  # while somebody waits
        self._over = asyncio.Event()

    async def wait(self, box: Box, deadline: float) -> Any:
        """Return the next note for a box that is in; None at the monotonic `deadline`."""
        if self._link.is_full:
            self._loop.add_writer(self._link.socket, self._on_writable)
        if self._timer is None and not self.dialogue.over:
            self._timer = self._loop.call_later(left_until(self.dialogue.due), self._on_silence)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if deadline == math.inf else left_until(deadline)):
                return await box.notes.get()
        return None

    async def close(self) -> None:
        """End the connection; tasks that wait raise `WorkerLost`."""
        if self.dialogue.over:
            return
        self.dialogue.farewell("the client was closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._over.wait()
        self._give_back()

    def forget(self) -> None:
        """Close the descriptor: the loop is closed, or the process is a fork of the one that the loop ran in."""
        self._link.forget()

    def _on_readable(self) -> None:
        self.dialogue.listen()
        if self.dialogue.over and not self.dialogue.leaving:
            self._give_back()

    def _on_writable(self) -> None:
        self._link.push()
        if not self._link.is_full:
            self._loop.remove_writer(self._link.socket)

    def _on_silence(self) -> None:
        """Have the silence of the broker minded while anybody waits."""
        self._timer = None
        if self._boxes.boxes and not self.dialogue.over:
            self.dialogue.mind_silence()
            self._timer = self._loop.call_later(left_until(self.dialogue.due), self._on_silence)

    def _give_back(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._link.socket)
        self._loop.remove_writer(self._link.socket)
        self._link.close()


class _Boxes:
    """The boxes of the tasks that wait, as `Boxes`."""

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}
        self._over = False

    def enter(self, box: Box) -> bool:
        """As in `Boxes`."""
        if not self._over:
            self.boxes[box.number] = box
        return not self._over

    def leave(self, box: Box) -> None:
        """As in `Boxes`."""
        self.boxes.pop(box.number, None)

    def tell(self, number: int, note: Any) -> None:
        """As in `Boxes`."""
        box = self.boxes.get(number)
        if box is not None:
            box.notes.put_nowait(note)

    def disperse(self, note: Any) -> None:
        """As in `Boxes`."""
        self._over = True
        for box in self.boxes.values():
            box.notes.put_nowait(note)
