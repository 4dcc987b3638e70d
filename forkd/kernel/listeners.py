"""The listeners that the launcher holds for its services, so that none closes while a worker or a generation does."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
from typing import TYPE_CHECKING

from forkd import passage, process, sockets
from forkd.errors import ForkdError

if TYPE_CHECKING:
    import socket

    from forkd.core.spec import ServiceSpec

_FOR_ALL = 0o666  # a web server before the service is another user; `umask` narrows it


class Listener:
    """An open listener and the generations that use it, each with the mode that it wants of a Unix socket's file.

    It is closed when there is none left. The file has what any of them wants: during a roll both serve on it.
    """

    __slots__ = ("_file", "_mode", "_users", "address", "sock")

    def __init__(self, address: str, sock: socket.socket, mode: int) -> None:
        self.address = address
        self.sock = sock
        self._mode = mode
        self._users: dict[tuple[str, int], int] = {}
        self._file = _identity(address)

    @property
    def is_used(self) -> bool:
        """Whether any generation still needs it."""
        return bool(self._users)

    @property
    def reachable(self) -> bool:
        """Whether its file is still where clients look for it; a port always is."""
        return _identity(self.address) == self._file

    def take(self, user: tuple[str, int], mode: int) -> None:
        """Have one more generation use it; raises ForkdError when its file cannot have the mode."""
        self._set_mode(functools.reduce(operator.or_, self._users.values(), mode))
        self._users[user] = mode

    def leave(self, user: tuple[str, int]) -> None:
        """Have a generation use it no more."""
        if self._users.pop(user, None) is not None and self._users:
            with contextlib.suppress(ForkdError):  # workers ask themselves who has connected
                self._set_mode(functools.reduce(operator.or_, self._users.values()))

    def close(self) -> None:
        """Close it, and remove its file unless somebody else's is there by now."""
        self.sock.close()
        path = sockets.unix_path(self.address)
        if path is not None and self.reachable:
            with contextlib.suppress(OSError):  # the folder is gone or not ours any more: nothing to leave behind
                os.unlink(path)

    def _set_mode(self, wanted: int) -> None:
        path = sockets.unix_path(self.address)
        if path is None or wanted == self._mode or not self.reachable:
            return
        try:
            os.chmod(path, wanted)
        except OSError as error:
            raise ForkdError(f"cannot change who may connect to {path}: {error.strerror}") from None
        self._mode = wanted


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

        Others than the service's user get there only where it allows any. Raises ForkdError when it cannot be opened.
        """
        if spec.topic is None or spec.transport != "local":
            return []
        folder = os.path.join(self.runtime_dir, "rpc", spec.topic)
        passage.make(folder)
        if spec.allow:
            passage.open_to_all(folder)
        mode = passage.FOR_ALL if spec.allow else passage.FOR_OWNER
        return self._acquire(spec, generation, (f"unix:{folder}/{slot}.sock",), mode)

    def release(self, service: str, generation: int) -> None:
        """Close what only this generation has used."""
        for listener in self._open:
            listener.leave((service, generation))
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
            for listener in wanted:
                listener.take(user, mode)
        except ForkdError:
            self._close_unused()
            raise
        return wanted

    def _close_unused(self) -> None:
        for listener in [one for one in self._open if not one.is_used]:
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
        listener = Listener(address, sock, mode)
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
