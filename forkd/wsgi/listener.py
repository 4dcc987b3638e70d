"""A listening socket as this process uses it: it accepts, and it is closed here without harm to those who share it."""

from __future__ import annotations

import os
import socket as _stdlib
from _socket import (
    socket,
)  # the class below `socket.socket`, which eventlet leaves alone: no green thread may block here
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forkd.wsgi.tls import Tls

_OVER_TLS = {"wsgi.url_scheme": "https", "HTTPS": "on"}


class Listener:
    """One address that connections come from; `prepared` is the part of their environs that they have in common.

    The launcher and other workers hold the same socket: it is closed in this process, and never shut down. A `private`
    one is this worker's alone, for those who ask how it is. `tls` is what its connections speak; None: they do not.
    """

    __slots__ = ("_family", "_given", "_raw", "_tcp", "fd", "prepared", "private", "tls")

    def __init__(
        self, given: _stdlib.socket, common: dict[str, Any], *, private: bool = False, tls: Tls | None = None
    ) -> None:
        """Use a socket that was `given`; of `tls` a Unix socket makes no use."""
        self.private = private
        self._given = given
        self.fd = os.dup(given.fileno())
        self._family = given.family
        self._tcp = given.family != _stdlib.AF_UNIX
        self._raw = socket(given.family, given.type, given.proto, self.fd)
        self._raw.setblocking(False)
        name, port = given.getsockname()[:2] if self._tcp else ("localhost", "")
        self.tls = tls if self._tcp else None
        self.prepared = common | {"SERVER_NAME": str(name), "SERVER_PORT": str(port)} | (_OVER_TLS if self.tls else {})

    def accept(self) -> tuple[socket, tuple[str, str]]:
        """Return a connection, non-blocking, and its peer's address and port; raise what `accept` raises."""
        # `socket.accept` would make a `socket.socket`, which under eventlet is a green one.
        fd, address = self._raw._accept()  # type: ignore[attr-defined]  # noqa: SLF001 -- the primitive that the standard library itself builds on
        sock = socket(self._family, _stdlib.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        if not self._tcp:
            return sock, ("", "")
        with suppress(ConnectionError):  # it may be gone already; reading will tell
            sock.setsockopt(_stdlib.IPPROTO_TCP, _stdlib.TCP_NODELAY, 1)
        return sock, (address[0], str(address[1]))

    def close(self) -> None:
        """Close it in this process."""
        self._raw.close()
        self._given.close()
