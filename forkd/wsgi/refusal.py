"""What the server itself answers when it will not, or cannot, let the application answer."""

from __future__ import annotations

from http import HTTPStatus


class Refused(Exception):
    """A request that gets an error of the server's own, whereupon its connection is closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class BodyRefused(Refused, OSError):
    """Raised out of `wsgi.input`: the request's body is malformed, too long or too slow."""


class ClientGone(ConnectionError):
    """The client closed its connection in the middle of a request or of its answer.

    `unsent`: so many bytes of what was being sent are left.
    """

    def __init__(self, cause: str, unsent: int = 0) -> None:
        super().__init__(cause)
        self.unsent = unsent


def text(status: int) -> bytes:
    """Return the body of a page."""
    return f"{status} {HTTPStatus(status).phrase}\n".encode()


def page(status: int, head: bytes) -> bytes:
    """Return a whole response that says no more than its status; `head` is the block of Date and Server."""
    body = text(status)
    return b"HTTP/1.1 %d %b\r\n%bContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status,
        HTTPStatus(status).phrase.encode(),
        head,
        len(body),
        body,
    )
