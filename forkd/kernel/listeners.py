"""The listeners that the launcher holds for its services, so that none closes while a worker or a generation does."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from forkd import process, sockets
from forkd.errors import ForkdError

if TYPE_CHECKING:
    import socket

    from forkd.core.spec import ServiceSpec

_FOR_ALL = 0o666  # a web server before the service is another user; `umask` narrows it
_FOR_OWNER = 0o600


class Listener:
    """An open listener and the generations that use it; it is closed when there is none left."""

    __slots__ = ("_file", "address", "sock", "users")

    def __init__(self, address: str, sock: socket.socket) -> None:
        self.address = address
        self.sock = sock
        self.users: set[tuple[str, int]] = set()
        self._file = _identity(address)

    @property
    def reachable(self) -> bool:
        """Whether its file is still where clients look for it; a port always is."""
        return _identity(self.address) == self._file

    def close(self) -> None:
        """Close it, and remove its file unless somebody else's is there by now."""
        self.sock.close()
        path = sockets.unix_path(self.address)
        if path is not None and self.reachable:
            with contextlib.suppress(OSError):  # the folder is gone or not ours any more: nothing to leave behind
                os.unlink(path)


class Listeners:
    """All of them: whoever asks for an address that is open gets the same listener, as long as it can be reached.

    One whose file somebody has removed stays open for those who use it, beside the one that takes its place.
    """

    __slots__ = ("_open", "runtime_dir")

    def __init__(self, runtime_dir: str) -> None:
        self.runtime_dir = runtime_dir
        self._open: list[Listener] = []

    def acquire(self, spec: ServiceSpec, generation: int) -> list[Listener]:
        """Open what the service binds, for all of its workers; give the listeners in the order of the spec.

        Raises ForkdError when one cannot be opened; then none is.
        """
        return self._acquire(spec, generation, spec.bind, _FOR_ALL & ~(spec.umask or 0))

    def acquire_slot(self, spec: ServiceSpec, generation: int, slot: int) -> list[Listener]:
        """Open what belongs to one slot: where its worker takes RPC calls, if the service has a topic.

        Raises ForkdError when it cannot be opened.
        """
        if spec.topic is None or spec.transport != "local":
            return []
        folder = os.path.join(self.runtime_dir, "rpc", spec.topic)
        try:
            os.makedirs(folder, 0o755, exist_ok=True)
        except OSError as error:
            msg = f"cannot make {folder}: {error.strerror}"
            raise ForkdError(msg) from None
        return self._acquire(spec, generation, (f"unix:{folder}/{slot}.sock",), _FOR_OWNER)

    def release(self, service: str, generation: int) -> None:
        """Close what only this generation has used."""
        for listener in self._open:
            listener.users.discard((service, generation))
        self._close_unused()

    def let_go(self) -> None:
        """Close everything but leave the files, which are for those who listen on."""
        for listener in self._open:
            listener.sock.close()

    def close(self) -> None:
        """Close everything."""
        for listener in self._open:
            listener.close()
        self._open.clear()

    def _acquire(self, spec: ServiceSpec, generation: int, addresses: tuple[str, ...], mode: int) -> list[Listener]:
        user = (spec.name, generation)
        try:
            wanted = [self._get(spec, address, mode) for address in addresses]
        except ForkdError:
            self._close_unused()
            raise
        for listener in wanted:
            listener.users.add(user)
        return wanted

    def _close_unused(self) -> None:
        for listener in [one for one in self._open if not one.users]:
            self._open.remove(listener)
            listener.close()

    def _get(self, spec: ServiceSpec, address: str, mode: int) -> Listener:
        for listener in self._open:
            if listener.address == address and listener.reachable:
                if spec.reuse_port:
                    sockets.share(listener.sock)
                return listener
        who = process.account(spec.user, spec.group)
        sock = sockets.listen(address, spec.backlog, mode, (who.uid, who.gid), reuse_port=spec.reuse_port)
        listener = Listener(address, sock)
        self._open.append(listener)
        return listener


def _identity(address: str) -> tuple[int, int] | None:
    path = sockets.unix_path(address)
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
