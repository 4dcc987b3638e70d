"""The head of a response, made of what the application gave: checked, framed, and cached where it repeats."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from forkd.wsgi.known import keep

if TYPE_CHECKING:
    from collections.abc import Iterable

_STATUS = re.compile(r"[1-9][0-9]{2}( [\t -~\x80-\xff]*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\t"})
# What belongs to the connection, not to the application (PEP 3333, "Other HTTP Features").
_HOP_BY_HOP = {
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
}
_NOTABLE = {"content-length", "connection", "date", "server"}
_SECRET = {"set-cookie"}  # not kept longer than it has to be

Known = tuple[bytes, "str | None", int]
Fields = tuple[bytes, "int | None", bool, bool, bool]

_lines: dict[str, tuple[int, bytes]] = {}
_known: dict[tuple[str, str], Known] = {}


class Clock:
    """Date and Server as they are sent, made once in a second."""

    def __init__(self) -> None:
        self._since = self._until = 0.0
        self._block = b""

    def block(self, *, dated: bool = False, named: bool = False) -> bytes:
        """Return the fields that the application has not given itself."""
        now = time.time()
        if not self._since <= now < self._until:
            self._since = now // 1
            self._until = self._since + 1
            self._block = f"Date: {formatdate(self._since, usegmt=True)}\r\nServer: forkd\r\n".encode()
        if not (dated or named):
            return self._block
        date, server, _ = self._block.split(b"\r\n")
        return (b"" if dated else date + b"\r\n") + (b"" if named else server + b"\r\n")


CLOCK = Clock()


def status_line(status: str) -> tuple[int, bytes]:
    """Return the number and the line of a status such as "200 OK"; raise `ValueError` for what is none."""
    try:
        return _lines[status]
    except (KeyError, TypeError):
        return _learn_status(status)


def _learn_status(status: str) -> tuple[int, bytes]:
    if type(status) is not str or not _STATUS.fullmatch(status):
        raise ValueError(f"a status is a str such as '200 OK', not {status!r}")
    code = int(status[:3])
    if code < 200:
        raise ValueError(f"an application cannot answer with the interim status {status!r}")
    line = code, f"HTTP/1.1 {status if len(status) > 3 else status + ' '}\r\n".encode("latin-1")
    keep(_lines, status, len(status), line)
    return line


def fields(headers: Iterable[Any]) -> Fields:
    """Return the fields as they are sent, and what the server must know of them: Content-Length, Connection, others.

    That is the length, whether it closes the connection, and whether Date and Server are given. Any pairs will do,
    although PEP 3333 asks for tuples in a list. Raise `ValueError` or `TypeError` for what it and HTTP forbid.
    """
    lines = []
    length: int | None = None
    close = dated = named = False
    for field in headers:
        try:
            line, notable, number = _known[field]
        except (KeyError, TypeError):
            line, notable, number = _learn(field)
        if notable == "connection":
            close = close or number > 0
            continue
        if notable == "content-length":
            if length is not None:
                _check_same(number, length)
                continue
            length = number
        elif notable is not None:
            dated = dated or notable == "date"
            named = named or notable == "server"
        lines.append(line)
    return b"".join(lines), length, close, dated, named


def _check_same(length: int, other: int) -> None:
    if length != other:
        raise ValueError("two different lengths in Content-Length")


def _learn(field: Any) -> Known:
    """Return the line of a field, its name in lower case if that is notable, and what its value means then."""
    name, value = field
    if type(name) is not str or not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        raise ValueError(f"{name} is for the server to say, not for the application")
    line = _line(name, value)
    number = 0
    if lower == "content-length":
        number = _length(value)
        line = length_line(number)
    elif lower == "connection":
        number = "close" in value.lower()
    found = line, lower if lower in _NOTABLE else None, number
    if lower not in _SECRET and type(value) is str:
        keep(_known, (name, value), len(line), found)
    return found


def _line(name: str, value: str) -> bytes:
    text = (name + ": " + value).encode("latin-1")
    if len(text.translate(None, _CONTROLS)) != len(text):
        raise ValueError(f"the response header {name} has a line end or a control character in it")
    return text + b"\r\n"


def length_line(length: int) -> bytes:
    """Return the field that tells a length."""
    return b"Content-Length: %d\r\n" % length


def _length(value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"malformed Content-Length {value!r}")
    return int(value)
