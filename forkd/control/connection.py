"""One client of the control socket, as bytes and lines; what the lines mean is the endpoint's business."""

from __future__ import annotations

import os
import select
import socket
import struct

from forkd.control import protocol

UNREAD_LIMIT = 4 * 1024 * 1024  # bytes that a client may leave unread before it is dropped
NEWS_LIMIT = 2 * 1024 * 1024  # bytes that it may leave unread before it loses news: more than all that are kept
_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)


class Connection:
    """Open exactly as long as it stands in `registry` under its descriptor and is registered with `epoll`.

    `ticket` is what the client waits for (0: nothing), `service` whose news it is told (None: everybody's), and
    `follow` whether it is told them after the end, too.
    """

    __slots__ = (
        *("_epoll", "_inbound", "_leaving", "_lost", "_outbound", "_reading", "_registry", "_sock"),
        *("follow", "service", "ticket"),
    )

    def __init__(self, sock: socket.socket, epoll: select.epoll, registry: dict[int, Connection]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._epoll = epoll
        self._registry = registry
        self._inbound = bytearray()
        self._outbound = bytearray()
        self._reading = True
        self._leaving = False  # closed as soon as it has read what it was sent
        self._lost = 0  # news, since it had no room for one more
        self.ticket = 0
        self.service: str | None = None
        self.follow = False
        registry[sock.fileno()] = self
        epoll.register(sock, select.EPOLLIN)

    def refusal(self) -> str | None:
        """Return why the peer may not be here: it must be root or the launcher's own user."""
        uid = self._peer_uid()
        if uid in {0, os.geteuid()}:
            return None
        return f"user {uid} may not control this launcher: only root and its own user may"

    def ready(self, mask: int) -> bytes | None:
        """Take what epoll said of it; return its next request.

        One at a time, and the next one not before the answer is with the kernel: whoever sends thousands at once holds
        up nobody else, and fills his own socket.
        """
        if mask & (select.EPOLLHUP | select.EPOLLERR):  # closed in both directions: nobody is there
            self.close()
            return None
        if mask & select.EPOLLOUT:
            self._flush()
        if mask & select.EPOLLIN and self._reading:
            self._receive()
        if self._outbound or not self._has_request():
            return None
        line, _, self._inbound = self._inbound.partition(b"\n")
        self._watch()
        return bytes(line)

    def send(self, line: bytes) -> None:
        """Send now or later; a client that leaves too much unread is dropped, and one that was gets nothing."""
        if self._sock.fileno() >= 0:
            self._outbound += line
            self._flush()

    def tell(self, news: bytes) -> None:
        """Send news now or later; a client with too much unread loses them, and is told how many when it has read."""
        if self._lost or len(self._outbound) + len(news) > NEWS_LIMIT:
            self._lost += 1
        else:
            self.send(news)

    def release(self) -> None:
        """Let it wait for nothing more, and go once it has its answer if it has closed its own side."""
        self.ticket = 0
        self._leaving = self._leaving or not self._reading

    def part(self, error: str) -> None:
        """Tell why, and close."""
        self._reading, self._leaving = False, True
        self.send(protocol.error_line(error))

    def close(self) -> None:
        """Drop it; to do so twice is nothing."""
        self._reading = False
        number = self._sock.fileno()
        if number >= 0:
            del self._registry[number]
            self._epoll.unregister(number)
            self._sock.close()

    def _peer_uid(self) -> int:
        raw = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(raw)[1])

    def _has_request(self) -> bool:
        return self._reading and b"\n" in self._inbound

    def _receive(self) -> None:
        try:
            data = self._sock.recv(protocol.REQUEST_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._inbound += data
        if not data:  # it may have closed one direction only, and still read
            self._reading, self._leaving = False, not self.ticket
            self._flush()
        elif len(self._inbound) - self._inbound.rfind(b"\n") > protocol.REQUEST_LIMIT:
            self.part(f"a request has at most {protocol.REQUEST_LIMIT} bytes")
        else:
            self._watch()

    def _flush(self) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            while self._outbound or self._lost:
                if not self._outbound:
                    self._outbound += protocol.lost_line(self._lost)
                    self._lost = 0
                del self._outbound[: self._sock.send(self._outbound)]
        except BlockingIOError:
            if len(self._outbound) > UNREAD_LIMIT:
                self.close()
                return
        except OSError:
            self.close()
            return
        if self._leaving and not self._outbound:
            self.close()
            return
        self._watch()

    def _watch(self) -> None:
        """Ask epoll for what is to come: a request that is here already is due when an answer can be written."""
        has_request = self._has_request()
        more = select.EPOLLIN if self._reading and not has_request else 0
        self._epoll.modify(self._sock, more | (select.EPOLLOUT if self._outbound or has_request else 0))
