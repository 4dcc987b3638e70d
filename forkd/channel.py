"""Bounded JSON messages with file descriptors over a SOCK_SEQPACKET pair; it knows no message by name.

Identity is the channel a message came by and the pid that the kernel attests, never what a message says.
"""

from __future__ import annotations

import _socket  # the C module: eventlet replaces `socket.socket` in its services, and a channel must not yield
import contextlib
import json
import os
import struct
from select import POLLIN, poll  # bound here, since eventlet takes it away from `select`
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.errors import ChannelClosed, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOL = 1
MESSAGE_LIMIT = 65536  # bytes
REASON_LIMIT = 1000  # characters of what is kept for the status
FDS_LIMIT = 253  # SCM_MAX_FD of the kernel, unix(7)
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_FD = struct.Struct("i")


class Message(NamedTuple):
    """A JSON object with a `type`, the descriptors that came with it (now the receiver's), and its sender's pid.

    The pid is the kernel's word (SCM_CREDENTIALS), 0 on an end that does not ask for it.
    """

    body: dict[str, Any]
    fds: tuple[int, ...]
    pid: int


class Channel:
    """One end of a pair; it never blocks but in `wait`, and once it has raised ChannelClosed it goes on doing so.

    `unread` tells, once the other end is gone, whether it has left messages unread.
    """

    __slots__ = ("_ancillary", "_sock", "unread")

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        sock.setblocking(True)  # a service's code may have set a default timeout, which would be waited for
        self.unread = False
        # The end that wants credentials trusts nobody: it leaves no room for descriptors, so the kernel drops them.
        trusting = not sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED)
        self._ancillary = _socket.CMSG_SPACE(FDS_LIMIT * _FD.size if trusting else _CREDENTIALS.size)

    def fileno(self) -> int:
        """Give the descriptor to poll for reading; -1 when closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end; closing twice is harmless."""
        self._sock.close()

    def wait(self) -> None:
        """Block this process, green threads and all, until there is something to receive or the other end is gone."""
        poller = poll()
        poller.register(self._sock.fileno(), POLLIN)
        poller.poll()

    def send(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message at once.

        Raises ChannelClosed when the other end is gone, and ProtocolError when the message is too
        big or the other end has left so many unread that the queue is full.
        """
        data = json.dumps(body, separators=(",", ":")).encode()
        if len(data) > MESSAGE_LIMIT or len(fds) > FDS_LIMIT:
            msg = f"a message of {len(data)} bytes and {len(fds)} descriptors is too big"
            raise ProtocolError(msg)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            self._sock.sendmsg([data], rights, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            msg = "the other end does not read its channel"
            raise ProtocolError(msg) from None
        except OSError as error:
            raise ChannelClosed(os.strerror(error.errno or 0)) from None

    def receive(self) -> Message | None:
        """Take the next message; None: there is none now.

        Raises ChannelClosed at the end, and ProtocolError for a message that is too long, not a
        JSON object with a `type`, or that brings descriptors nobody asked for.
        """
        flags = _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC
        try:
            data, ancillary, truncated, _ = self._sock.recvmsg(MESSAGE_LIMIT, self._ancillary, flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            self.unread = True  # said once; its own messages are still here
            return self.receive()
        except OSError as error:
            raise ChannelClosed(os.strerror(error.errno or 0)) from None
        if not data:
            msg = "the other end of the channel is closed"
            raise ChannelClosed(msg)
        fds, pid = _unpack(ancillary)
        try:
            return Message(_decode(data, truncated), fds, pid)
        except ProtocolError:
            for fd in fds:
                os.close(fd)
            raise


def pair(*, attested: bool = True) -> tuple[Channel, Channel]:
    """Make a channel; the first end is the launcher's, where each message bears its sender's pid if `attested`."""
    upper, lower = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    if attested:
        upper.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
    return Channel(upper), Channel(lower)


def from_fd(fd: int) -> Channel:
    """Take over a descriptor that is one end of a pair."""
    return Channel(_socket.socket(fileno=fd))


def failed(error: str, traceback: str) -> dict[str, str]:
    """Give a `failed` message that fits, whatever its length: a traceback says most at its end."""
    while len(json.dumps(traceback)) > MESSAGE_LIMIT - 16384:
        traceback = traceback[len(traceback) // 4 :]
    return {"type": "failed", "error": error[:REASON_LIMIT], "traceback": traceback}  # a character is 12 bytes at most


def _unpack(ancillary: list[tuple[int, int, bytes]]) -> tuple[tuple[int, ...], int]:
    fds: list[int] = []
    pid = 0
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            whole = len(data) - len(data) % _FD.size
            fds.extend(fd for (fd,) in _FD.iter_unpack(data[:whole]))
        elif level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data)[0]
    return tuple(fds), pid


def _decode(data: bytes, truncated: int) -> dict[str, Any]:
    if truncated & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        msg = "a message that is too long, or with descriptors"
        raise ProtocolError(msg)
    body = None
    with contextlib.suppress(ValueError, RecursionError):  # not JSON, not text, or nested to exhaust the stack
        body = json.loads(data)
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        msg = "a message that is not a JSON object with a type"
        raise ProtocolError(msg)
    return body
