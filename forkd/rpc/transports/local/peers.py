"""Who may call on this host: callers as the kernel tells them, by user and groups, against those that are allowed."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

from forkd import process
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Sequence

_UCRED = struct.Struct("iII")  # pid, uid, gid; unix(7), SO_PEERCRED
_SO_PEERGROUPS = 59  # Linux 4.13 and later, of all but a few processors; the socket module does not name it
_MOST_GROUPS = 256  # as many as the socket module has room for in an option


class Peers:
    """Root, the user that this process runs as, and those of `allow`: `uid:N`, `gid:N`, `user:NAME`, `group:NAME`.

    Raises ForkdError for an entry that leads nowhere.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        ids = [_id(entry) for entry in allow]
        self._uids = {0, os.geteuid(), *(number for is_group, number in ids if not is_group)}
        self._gids = {number for is_group, number in ids if is_group}
        others = "".join(f", {entry}" for entry in allow)
        self._text = f"only root, uid {os.geteuid()}, which the service runs as{others} may"

    def refusal(self, sock: socket.socket) -> str | None:
        """Return why the process that has connected may not call; None where it may."""
        _, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid in self._uids or gid in self._gids:
            return None
        try:
            if self._gids and not self._gids.isdisjoint(_groups(sock)):
                return None
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise
            return f"uid {uid} may not call: it is in more than {_MOST_GROUPS} groups, too many to look at"
        return f"uid {uid} may not call: {self._text}"


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups of who has connected."""
    data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    return struct.unpack(f"{len(data) // 4}I", data)


def _id(entry: str) -> tuple[bool, int]:
    """Return whether an entry means a group, and its number."""
    kind, _, name = entry.partition(":")
    if kind in ("user", "group") and name:
        return (True, process.account(None, name).gid) if kind == "group" else (False, process.account(name, None).uid)
    if kind not in ("uid", "gid") or not (name.isascii() and name.isdecimal()):
        raise ForkdError(f"allow: expected uid:…, gid:…, user:… or group:…, got {entry!r:.80}")
    return kind == "gid", int(name)
