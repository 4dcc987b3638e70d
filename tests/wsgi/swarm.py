"""Many connections at once, of one thread; how they are used is told to them byte by byte."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
from typing import TYPE_CHECKING, Self

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE = 60.0


class Member:
    """One connection: what it has to send yet, what it has got, and whether the other side has ended it, and how."""

    __slots__ = ("ended", "got", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent = b""
        self.got = b""
        self.ended = ""

    def answers(self) -> int:
        return self.got.count(b"HTTP/1.1 ")


class Swarm:
    """Connections to one address; nothing moves but in `turn`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.members: list[Member] = []
        self._address = host, int(port)
        self._poll = select.epoll()
        self._by_fd: dict[int, Member] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.leave(self.members)
        self._poll.close()

    def grow(self, count: int) -> list[Member]:
        """Begin to connect so many more; return them."""
        _want_files(len(self.members) + count)
        return [self._connect() for _ in range(count)]

    def say(self, data: bytes, members: Iterable[Member] | None = None) -> None:
        """Have each of those send that are open, by default of all."""
        for member in self.members if members is None else members:
            if not member.ended:
                member.unsent += data
                self._poll.modify(member.sock, select.EPOLLIN | select.EPOLLOUT)

    def leave(self, members: Iterable[Member]) -> None:
        """Close connections."""
        for member in list(members):
            self._by_fd.pop(member.sock.fileno(), None)
            member.sock.close()
            member.ended = member.ended or "left"
        self.members = [member for member in self.members if member.sock.fileno() >= 0]

    def turn(self) -> int:
        """Send and receive what can be; return on how many connections."""
        found = self._poll.poll(0)
        for fd, events in found:
            member = self._by_fd[fd]
            if events & select.EPOLLOUT:
                self._send(member)
            if events & ~select.EPOLLOUT and not member.ended:
                self._receive(member)
        return len(found)

    def until(self, predicate: Callable[[], object], what: str) -> None:
        """Go on until something is so."""

        def reached() -> object:
            while self.turn() > len(self.members) // 100:
                pass
            return predicate()

        until(reached, PATIENCE, what)

    def _connect(self) -> Member:
        member = Member(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        member.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        member.sock.connect_ex(self._address)
        self._poll.register(member.sock, select.EPOLLIN)
        self._by_fd[member.sock.fileno()] = member
        self.members.append(member)
        return member

    def _send(self, member: Member) -> None:
        with contextlib.suppress(ConnectionError):  # which reading tells as well
            member.unsent = member.unsent[member.sock.send(member.unsent) :]
        if not member.unsent:
            self._poll.modify(member.sock, select.EPOLLIN)

    def _receive(self, member: Member) -> None:
        try:
            data = member.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            member.ended = type(error).__name__
        member.got += data
        if not data:
            member.ended = member.ended or "orderly"
            self._poll.unregister(member.sock)


def _want_files(count: int) -> None:
    """Allow this process so many descriptors and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 200
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"these tests take {wanted} descriptors"
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
