"""What a row of the corpus is, and the requests that most rows differ from in one thing."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Case(NamedTuple):
    """Bytes that must be refused: the status that RFC 9110 and 9112 ask for, and why."""

    name: str
    data: bytes
    status: int
    reason: str


class Legal(NamedTuple):
    """Odd bytes that mean exactly one request: its body, where it is not empty, and what its environ has to say.

    `environ`: None for a key that must not be there. `closes`: the connection ends with the answer, whatever follows.
    """

    name: str
    data: bytes
    reason: str
    body: bytes = b""
    environ: Mapping[str, str | None] = MappingProxyType({})
    closes: bool = False

    @property
    def means(self) -> tuple[str, str, bytes]:
        """Its method, target and body."""
        method, target, _ = self.data.lstrip(b"\r\n").split(b" ", 2)
        return method.decode(), target.decode(), self.body


CHUNKED = b"Transfer-Encoding: chunked"


def get(*fields: bytes, line: bytes = b"GET /fail HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return get(*fields, line=b"POST /fail HTTP/1.1") + body
