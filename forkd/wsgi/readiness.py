"""A descriptor by which selectors learn that bytes of a connection wait here, and not with the kernel."""

from __future__ import annotations

import os
from select import EPOLLIN
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from select import epoll


class Readiness:
    """Readable when the connection is, or when something is held for it: bytes that TLS has decrypted, or its end."""

    def __init__(self, fd: int, poll: epoll) -> None:
        """Take the connection's descriptor, and an epoll to watch it by."""
        self._poll = poll
        self._held = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._says = False
        poll.register(fd, EPOLLIN)
        poll.register(self._held, EPOLLIN)

    def fileno(self) -> int:
        """Return the descriptor; it says nothing of whether one could send."""
        return self._poll.fileno()

    def hold(self, something: bool) -> None:
        """Say whether something is held."""
        if something != self._says:
            self._says = something
            if something:
                os.eventfd_write(self._held, 1)
            else:
                os.eventfd_read(self._held)

    def close(self) -> None:
        """Let go of everything but the connection."""
        self._poll.close()
        os.close(self._held)
