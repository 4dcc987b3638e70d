"""The listeners that are one worker's alone: whoever asks there how a worker is gets the answer of no other.

The launcher opens them, since the worker's user may not, and keeps none: a dead worker refuses at once.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from forkd import sockets
from forkd.config.runtime_dir import health_socket
from forkd.core.spec import HealthcheckSpec
from forkd.errors import ForkdError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from forkd.core.spec import ServiceSpec

_BACKLOG = 16  # one asks, and whoever looks by hand
_OWN_FOLDER, _OWN_FILE = 0o700, 0o600


class Check(NamedTuple):
    """Where one worker is asked how it is, and how."""

    socket: str
    spec: HealthcheckSpec


class PrivateListeners:
    """Each has its file, in a folder of the launcher's user alone, for as long as its worker lives."""

    __slots__ = ("_checks", "_runtime_dir")

    def __init__(self, runtime_dir: str) -> None:
        self._runtime_dir = runtime_dir
        self._checks: dict[int, Check] = {}

    @property
    def checks(self) -> Mapping[int, Check]:
        """Those of all workers that live, by id."""
        return self._checks

    def move(self, runtime_dir: str) -> None:
        """Make them below this directory, ours from now on; remove what a launcher that was killed has left there."""
        self._runtime_dir = runtime_dir
        folder = os.path.dirname(health_socket(runtime_dir, 0))
        if os.path.isdir(folder) and _is_own(folder):
            for name in os.listdir(folder):
                with contextlib.suppress(IsADirectoryError):  # which no launcher has made
                    os.unlink(os.path.join(folder, name))

    @contextlib.contextmanager
    def opened(self, spec: ServiceSpec, id: int) -> Iterator[dict[str, socket.socket]]:
        """Open what a worker needs, by the name that it goes by, to be passed on before it is closed here.

        It is nothing for a service without a healthcheck. Raises ForkdError when it cannot be opened.
        """
        if not spec.healthcheck.http:
            yield {}
            return
        path = health_socket(self._runtime_dir, id)
        _make(os.path.dirname(path))
        with sockets.listen(f"unix:{path}", _BACKLOG, _OWN_FILE) as sock:
            self._checks[id] = Check(path, spec.healthcheck)
            yield {sockets.PRIVATE: sock}

    def forget(self, id: int) -> None:
        """Remove the file of a worker that is gone, if it had one."""
        if id in self._checks:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._checks.pop(id).socket)

    def close(self) -> None:
        """Remove all files."""
        for id in list(self._checks):
            self.forget(id)


def _make(folder: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, _OWN_FOLDER)
        if not _is_own(folder):
            raise ForkdError(f"{folder} is not the launcher's own")
    except OSError as error:
        raise ForkdError(f"cannot make {folder}: {error.strerror}") from None


def _is_own(folder: str) -> bool:
    """Tell whether nobody else can have made it: in a runtime directory like /tmp anybody could lay a link."""
    found = os.lstat(folder)
    return os.path.isdir(folder) and not os.path.islink(folder) and found.st_uid == os.geteuid()
