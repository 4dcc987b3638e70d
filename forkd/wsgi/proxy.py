"""The PROXY header that a proxy begins a connection with, from its bytes to whom it names; it touches no socket.

Versions 1 and 2: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

MOST_BEHIND = 4096
"""Bytes of addresses and further values in a header of version 2; those who send any need a few hundred."""

_LONGEST_LINE = 107  # with its CRLF
_WORD = b"PROXY "
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) %b %b\r\n" % (_PORT, _PORT))
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16  # bytes before the addresses
_LOCAL, _PROXIED = 0x20, 0x21  # version and command
_UNSPECIFIED, _INET, _INET6, _UNIX = range(4)
_UNIX_ADDRESSES = 216

_REQUEST = re.compile(rb"(?:\r\n)*[A-Za-z]")

EXPECTED = "this port expects a header of the PROXY protocol first"


class HeaderRefused(Exception):
    """What a connection begins with is no PROXY header; `http`: it looks like a request, so the sender can be told."""

    def __init__(self, reason: str, *, http: bool = False) -> None:
        super().__init__(reason)
        self.http = http


class Header(NamedTuple):
    """A whole header: the bytes that it takes, and whom it names by address and port.

    `protocol` is TCP4, TCP6, UNIX, UNKNOWN or LOCAL; those of the last two have no addresses: of a client that the
    proxy cannot tell, or because it is the client itself. The address and the port of a Unix socket are empty.
    """

    size: int
    protocol: str
    source: tuple[str, str] | None = None
    destination: tuple[str, str] | None = None


def parse(start: bytes | bytearray) -> Header | None:
    """Return the header at the start of what was received; None: more of it is to come.

    Raise `HeaderRefused` as soon as it cannot become one.
    """
    if start[: len(_SIGNATURE)] == _SIGNATURE[: len(start)]:
        return _parse_binary(start)
    if start[: len(_WORD)] == _WORD[: len(start)]:
        return _parse_line(start)
    raise HeaderRefused("no PROXY header", http=_REQUEST.match(start) is not None)


def _parse_line(start: bytes | bytearray) -> Header | None:
    size = start.find(b"\n", 0, _LONGEST_LINE) + 1
    if not size:
        if len(start) >= _LONGEST_LINE:
            raise HeaderRefused("the line is too long")
        return None
    line = bytes(start[:size])
    if _UNKNOWN_LINE.fullmatch(line):
        return Header(size, "UNKNOWN")
    match = _LINE.fullmatch(line)
    if match is None:
        raise HeaderRefused("malformed line")
    version, source, destination, source_port, destination_port = (str(group, "ascii") for group in match.groups())
    if int(source_port) > 65535 or int(destination_port) > 65535:
        raise HeaderRefused("no port")
    kind = IPv4Address if version == "4" else IPv6Address
    try:
        ends = _text(kind(source)), _text(kind(destination))
    except ValueError:
        raise HeaderRefused("no address of its family") from None
    return Header(size, f"TCP{version}", (ends[0], source_port), (ends[1], destination_port))


def _parse_binary(start: bytes | bytearray) -> Header | None:
    if len(start) < _FIXED:
        return None
    command, kind, length = struct.unpack_from("!BBH", start, len(_SIGNATURE))
    if command not in (_LOCAL, _PROXIED):
        raise HeaderRefused("another version, or an unknown command")
    if length > MOST_BEHIND:
        raise HeaderRefused("the header is too long")
    size = _FIXED + length
    if len(start) < size:
        return None
    if command == _LOCAL:
        return Header(size, "LOCAL")
    return _with_addresses(size, kind, bytes(start[_FIXED:size]))


def _with_addresses(size: int, kind: int, block: bytes) -> Header:
    """Return a header whose addresses `block` begins with; the values (TLVs) that may follow are passed over."""
    family, transport = divmod(kind, 16)
    if family > _UNIX or transport > 2:
        raise HeaderRefused("unknown family or transport")
    if family == _UNSPECIFIED or not transport:
        return Header(size, "UNKNOWN")
    width = 4 if family == _INET else 16
    if len(block) < (_UNIX_ADDRESSES if family == _UNIX else 2 * width + 4):
        raise HeaderRefused("too short for its addresses")
    if family == _UNIX:
        return Header(size, "UNIX", ("", ""), ("", ""))
    source, destination, source_port, destination_port = struct.unpack_from(f"!{width}s{width}sHH", block)
    name, address = ("TCP4", IPv4Address) if family == _INET else ("TCP6", IPv6Address)
    return Header(
        size, name, (_text(address(source)), str(source_port)), (_text(address(destination)), str(destination_port))
    )


def _text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as people write it, one of IPv4 that is mapped into IPv6 as what it is."""
    return str(getattr(address, "ipv4_mapped", None) or address)
