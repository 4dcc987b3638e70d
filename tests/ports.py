"""Free TCP ports for what the tests start."""

from __future__ import annotations

import contextlib
import socket


class Ports:
    """Free TCP ports of 127.0.0.1, ours until `close`.

    A socket stays bound to each, so that the kernel gives it to nobody else. Who sets SO_REUSEADDR, as forkd and all
    servers do that the tests use, may listen on it all the same.
    """

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def take(self) -> int:
        """Return one more."""
        held = self._held.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port

    def close(self) -> None:
        """Give them all back."""
        self._held.close()
