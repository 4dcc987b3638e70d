"""Callers that wait for answers on one connection, without a thread of its own.

Of those that wait one leads: it reads for all, and puts each answer into its caller's box. A leader that has what it
waited for appoints the next by a note in that one's box. So somebody reads exactly while somebody waits, and the caller
that waits alone reads its answer itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from forkd.rpc.transports.waits import left_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.rpc.transports.amqp.notes import Box

_LEAD = object()  # the note by which a waiting caller is appointed


class Crowd:
    """The boxes of those who wait; `attend(seconds)` reads what comes within that time, for whoever leads."""

    def __init__(self, attend: Callable[[float], None], close: Callable[[], None]) -> None:
        """`close` is called when nobody waits any more, and nobody will."""
        self._attend = attend
        self._close = close
        self._lead = threading.Lock()
        self._entry = threading.Lock()  # guards the boxes, and that nobody comes any more
        self._boxes: dict[int, Box] = {}
        self._over = False

    def enter(self, box: Box) -> bool:
        """As in `Boxes`."""
        with self._entry:
            if not self._over:
                self._boxes[box.number] = box
            return not self._over

    def leave(self, box: Box) -> None:
        """As in `Boxes`; another caller leads then, if anybody waits and nobody leads."""
        with self._entry:
            self._boxes.pop(box.number, None)
            other = next(iter(self._boxes.values()), None)
        if other is None:
            self.close_if_over()
        elif not self._lead.locked():
            other.notes.put(_LEAD)

    def wait(self, box: Box, deadline: float) -> Any:
        """Return the next note for a box that is in; None at the monotonic `deadline`."""
        while True:
            if self._lead.acquire(blocking=False):
                try:
                    found = self._read_for(box, deadline)
                finally:
                    self._lead.release()
            else:
                found = box.notes.take(left_until(deadline))
            if found is not _LEAD:
                return found

    def tell(self, number: int, note: Any) -> None:
        """As in `Boxes`."""
        box = self._boxes.get(number)
        if box is not None:
            box.notes.put(note)

    def disperse(self, note: Any) -> None:
        """As in `Boxes`."""
        with self._entry:
            self._over = True
            boxes = list(self._boxes.values())
        for box in boxes:
            box.notes.put(note)

    def attend_if_free(self, seconds: float) -> bool:
        """Lead once, if nobody does, without waiting for a note; return whether it did."""
        if not self._lead.acquire(blocking=False):
            return False
        try:
            self._attend(seconds)
        finally:
            self._lead.release()
        return True

    def close_if_over(self) -> None:
        """Close if nobody waits, nobody reads at this moment, and nobody comes any more."""
        if self._over and not self._boxes and self._lead.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lead.release()

    def _read_for(self, box: Box, deadline: float) -> Any:
        """Lead until the box has a note, and return it; None at the deadline."""
        while True:
            found = box.notes.take(0)
            if found is _LEAD:
                continue
            if found is not None:
                return found
            seconds = left_until(deadline)
            if not seconds:
                return None
            self._attend(seconds)
