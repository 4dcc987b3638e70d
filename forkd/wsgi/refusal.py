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


def text(status: int, reason: str = "") -> bytes:
    """Return the body of a page."""
    return f"{status} {HTTPStatus(status).phrase}{reason and ': '}{reason}\n".encode()


class TlsFailed(ConnectionError):
    """The client and this server did not come to terms about TLS, or no longer do."""


def page(status: int, head: bytes, reason: str = "", *, mute: bool = False) -> bytes:
    """Return a whole response that says its status, and perhaps a reason; `head` is the block of Date and Server.

    A `mute` one is for HEAD: it has no body, and says how long that would be.
    """
    body = text(status, reason)
    return b"HTTP/1.1 %d %b\r\n%bContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status,
        HTTPStatus(status).phrase.encode(),
        head,
        len(body),
        b"" if mute else body,
    )
