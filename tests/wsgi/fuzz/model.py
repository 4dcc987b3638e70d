"""What a connection's bytes mean, read once more: by the grammar of RFC 9110 and 9112, and with none of forkd's code.

It is as strict as the server is meant to be, so both ways count: what is legal is served, and nothing else. It knows
all bytes at once, and no splits, timeouts or threads.
"""

from __future__ import annotations

import ipaddress
import re
import string
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

# What the server under test is given; small, so that random bytes get there.
LINE_LIMIT = 400
HEAD_LIMIT = 4000
BODY_LIMIT = 30000
# What it has by itself.
MOST_FIELDS = 100
MOST_BLANK_LINES = 20
CHUNK_LINE_LIMIT = 1024
MOST_EXCESS = 16384
HOST_LIMIT = 1024

# Registered ones, and a few that are in use.
METHODS = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS "
    b"PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK "
    b"UNSUBSCRIBE".split()
)
ONCE = (b"host", b"content-length", b"content-type", b"transfer-encoding", b"expect")

TCHAR = frozenset(f"{string.ascii_letters}{string.digits}!#$%&'*+-.^_`|~".encode())
VCHAR = frozenset(range(0x21, 0x7F))
TEXT = VCHAR | frozenset(range(0x80, 0x100)) | frozenset(b" \t")
NAME = frozenset(f"{string.ascii_letters}{string.digits}-._~!$&'()*+;=%".encode())
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class End(Enum):
    """Why there is no further message."""

    NOTHING = auto()  # the bytes end between two
    PARTIAL = auto()  # they end in a head, which may be refused already
    REFUSED = auto()
    CUT = auto()  # they end in a body
    BAD_BODY = auto()
    LAST = auto()  # the message says that it is the last one


class IllegalError(Exception):
    """What is read is against the grammar, or beyond a limit."""


@dataclass
class Message:
    """One request; `body` is None where it is cut off or malformed."""

    method: bytes
    target: bytes
    http11: bool
    fields: list[tuple[bytes, bytes]]  # names in lower case
    body: bytes | None = b""
    framed: bool = False  # it announces a body
    chunked: bool = False
    last: bool = False

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    def value(self, name: bytes) -> bytes | None:
        found = self.values(name)
        return found[0] if found else None


class Meaning(NamedTuple):
    messages: list[Message]
    end: End


@dataclass
class Reader:
    data: bytes
    at: int = 0
    excess: int = 0
    messages: list[Message] = field(default_factory=list)

    def line(self, limit: int) -> bytes | None:
        """Return the next line without its CRLF, or None where it has no end yet."""
        end = self.data.find(b"\n", self.at)
        if (len(self.data) if end < 0 else end) - self.at > limit:
            raise IllegalError("line")
        if end < 0:
            return None
        line = self.data[self.at : end]
        self.at = end + 1
        if line[-1:] != b"\r" or b"\r" in line[:-1]:
            raise IllegalError("line end")
        return line[:-1]


def meaning(data: bytes) -> Meaning:
    reader = Reader(data)
    while (end := _next(reader)) is None:
        pass
    return Meaning(reader.messages, end)


def _next(reader: Reader) -> End | None:
    """Read one more message; return why there is none behind it."""
    blank = 0
    while reader.data.startswith(b"\r\n", reader.at + blank):
        blank += 2
    if blank > 2 * MOST_BLANK_LINES:
        return End.REFUSED
    reader.at += blank
    if reader.at == len(reader.data):
        return End.NOTHING
    end = reader.data.find(b"\r\n\r\n", reader.at)
    if end < 0:
        return End.REFUSED if len(reader.data) - reader.at >= HEAD_LIMIT else End.PARTIAL
    try:
        message = head(reader.data[reader.at : end])
    except IllegalError:
        return End.REFUSED
    reader.at = end + 4
    reader.messages.append(message)
    try:
        complete = _body(reader, message)
    except IllegalError:
        return End.BAD_BODY
    if not complete:
        return End.CUT
    return End.LAST if message.last else None


def require(truth: object) -> None:
    if not truth:
        raise IllegalError


def is_token(text: bytes) -> bool:
    return text != b"" and TCHAR.issuperset(text)


# --- the head --------------------------------------------------------------------------------------------------------


def head(text: bytes) -> Message:
    """Return the message that a head, without its empty line, begins."""
    require(len(text) + 4 <= HEAD_LIMIT)
    line, *rest = text.split(b"\r\n")
    require(len(line) <= LINE_LIMIT and len(rest) <= MOST_FIELDS)
    words = line.split(b" ")
    require(len(words) == 3)
    method, target, version = words
    require(version in (b"HTTP/1.0", b"HTTP/1.1"))
    require(is_token(method) and VCHAR.issuperset(target) and b"#" not in target)
    require(method in METHODS)
    message = Message(method, target, version == b"HTTP/1.1", [_field(each) for each in rest])
    require(all(len(message.values(name)) <= 1 for name in ONCE))
    _host(message)
    _framing(message)
    _connection(message)
    return message


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    require(colon and is_token(name) and TEXT.issuperset(value))
    stripped = value.strip(b" \t")
    if name.lower() == b"transfer-encoding":
        # A tab there is legal, but the server refuses it: it is a known disguise.
        require(b"\t" not in value[value.find(stripped) + len(stripped) :])
    return name.lower(), stripped


def _host(message: Message) -> None:
    value = message.value(b"host")
    require(value is not None or not message.http11)
    require(value is None or is_authority(value) or value == b"")
    if message.target[:1] == b"/" or (message.target == b"*" and message.method == b"OPTIONS"):
        return
    scheme, mark, rest = message.target.partition(b"://")
    require(mark and scheme.lower() in (b"http", b"https"))
    require(is_authority(re.split(rb"[/?]", rest, maxsplit=1)[0]))


def is_authority(text: bytes) -> bool:
    """Return whether it is a host that is not empty, with or without a port, and no longer than the server takes."""
    if len(text) > HOST_LIMIT:
        return False
    name, colon, port = text.rpartition(b":")
    if not colon or text.endswith(b"]"):
        name, port = text, b""
    if port and not (len(port) <= 5 and port.isdigit() and int(port) < 65536):
        return False
    if name[:1] == b"[":
        try:
            ipaddress.IPv6Address(name[1:-1].decode("ascii"))
        except ValueError:
            return False
        return name[-1:] == b"]" and b"%" not in name
    escapes = re.findall(rb"%(..|.|)", name)
    return name != b"" and NAME.issuperset(name) and all(re.fullmatch(rb"[0-9a-fA-F]{2}", each) for each in escapes)


def _framing(message: Message) -> None:
    length, coding = message.value(b"content-length"), message.value(b"transfer-encoding")
    expect = message.value(b"expect")
    if coding is not None:
        require(message.http11 and length is None and coding.lower() == b"chunked")
        message.chunked = message.framed = True
    elif length is not None:
        require(length.isdigit() and len(length) <= 18 and int(length) <= BODY_LIMIT)
        message.framed = int(length) > 0
    require(not (message.http11 and expect is not None and expect.lower() != b"100-continue"))


def _connection(message: Message) -> None:
    options = [each.strip(b" \t").lower() for value in message.values(b"connection") for each in value.split(b",")]
    message.last = b"close" in options or not (message.http11 or b"keep-alive" in options)


# --- the body --------------------------------------------------------------------------------------------------------


def _body(reader: Reader, message: Message) -> bool:
    """Read the body; return whether it is all there."""
    if message.chunked:
        message.body = None
        message.body = _chunks(reader)
    elif message.framed:
        size = int(message.value(b"content-length") or 0)
        body = reader.data[reader.at : reader.at + size]
        reader.at += size
        message.body = body if len(body) == size else None
    return message.body is not None


def _chunks(reader: Reader) -> bytes | None:
    body = b""
    while size := _size(reader):
        require(len(body) + size <= BODY_LIMIT)
        body += reader.data[reader.at : reader.at + size]
        reader.at += size
        end = reader.line(CHUNK_LINE_LIMIT)
        if end is None:
            return None
        require(end == b"")
    return None if size is None or not _trailers(reader) else body


def _size(reader: Reader) -> int | None:
    line = reader.line(CHUNK_LINE_LIMIT)
    if line is None:
        return None
    digits = re.match(rb"[0-9a-fA-F]*", line)[0]
    require(0 < len(digits) <= 15)
    _extensions(line[len(digits) :])
    size = int(digits, 16)
    reader.excess = max(0, reader.excess + len(line) - size - 16)
    require(reader.excess <= MOST_EXCESS)
    return size


def _extensions(text: bytes) -> None:
    """Require *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )."""
    require(TEXT.issuperset(text))
    for each in QUOTED.sub(b'"', text).split(b";")[1:]:
        name, sign, value = each.partition(b"=")
        require(is_token(name.strip(b" \t")))
        require(not sign or value.strip(b" \t") == b'"' or is_token(value.strip(b" \t")))
    require(text.strip(b" \t")[:1] in (b"", b";"))
    require(text == text.rstrip(b" \t"))
    require(b'"' not in QUOTED.sub(b"", text))


def _trailers(reader: Reader) -> bool:
    """Read the trailer fields; return whether they have ended."""
    for _ in range(MOST_FIELDS + 1):
        line = reader.line(CHUNK_LINE_LIMIT)
        if line is None:
            return False
        if line == b"":
            return True
        _field(line)
    raise IllegalError("trailers")
