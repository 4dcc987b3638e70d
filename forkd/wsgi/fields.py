"""The head of a response, made of what the application gave: checked, framed, and cached where it repeats."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import NamedTuple

_MOST = 512  # status lines and header names kept
_STATUS = re.compile(r"[1-9][0-9]{2}( [\t -~\x80-\xff]*)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\t\r\n"})
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

_lines: dict[str, tuple[int, bytes]] = {}
_names: dict[str, tuple[str, str | None]] = {}


class Fields(NamedTuple):
    """An application's header fields: those that are sent as they are, and what the server must know of all."""

    block: bytes
    length: int | None
    close: bool
    dated: bool
    named: bool


class Clock:
    """Date and Server as they are sent, made once in a second."""

    def __init__(self) -> None:
        self._second = 0
        self._block = b""

    def block(self, given: Fields) -> bytes:
        """Return the fields that the application has not given itself."""
        now = int(time.time())
        if now != self._second:
            self._block = f"Date: {formatdate(now, usegmt=True)}\r\nServer: forkd\r\n".encode()
            self._second = now
        if not (given.dated or given.named):
            return self._block
        date, server, _ = self._block.split(b"\r\n")
        return (b"" if given.dated else date + b"\r\n") + (b"" if given.named else server + b"\r\n")


CLOCK = Clock()
NO_FIELDS = Fields(b"", None, close=True, dated=False, named=False)


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
    if len(_lines) < _MOST:
        _lines[status] = line
    return line


def fields(headers: list[tuple[str, str]]) -> Fields:
    """Return the fields as they are sent; raise `ValueError` or `TypeError` for what PEP 3333 and HTTP forbid."""
    lines: list[str] = []
    length: int | None = None
    close = dated = named = False
    for name, value in headers:
        try:
            prefix, notable = _names[name]
        except KeyError:
            prefix, notable = _learn_name(name)
        if notable is None:
            lines += (prefix, value, "\r\n")
        elif notable == "connection":
            close = close or "close" in value.lower()
        elif notable == "content-length":
            length = _length(value, length)
        else:
            dated = dated or notable == "date"
            named = named or notable == "server"
            lines += (prefix, value, "\r\n")
    return Fields(_checked("".join(lines), len(lines) // 3), length, close, dated, named)


def _checked(text: str, lines: int) -> bytes:
    block = text.encode("latin-1")
    if (
        block.count(b"\n") != lines
        or block.count(b"\r") != lines
        or len(block.translate(None, _CONTROLS)) != len(block)
    ):
        raise ValueError("a response header has a line end or a control character in it")
    return block


def _learn_name(name: str) -> tuple[str, str | None]:
    if type(name) is not str or not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no header name")
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        raise ValueError(f"{name} is for the server to say, not for the application")
    entry = f"{name}: ", lower if lower in _NOTABLE else None
    if len(_names) < _MOST:
        _names[name] = entry
    return entry


def _length(value: str, known: int | None) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"malformed Content-Length {value!r}")
    if known is not None and int(value) != known:
        raise ValueError("two different lengths in Content-Length")
    return int(value)
