"""What a request target means (RFC 9112, section 3.2), and what a Host field may say."""

from __future__ import annotations

import re
from _socket import AF_INET6, inet_pton
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from forkd.wsgi.refusal import Refused

_ABSOLUTE = re.compile(r"https?://([^/?@]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
# RFC 3986 has a comma in names too, but nobody has: it is what becomes of two hosts that somebody joins.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|((?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*))(?::([0-9]{0,5}))?")

_LONGEST_HOST = 1024  # characters; names of more than 255 exist nowhere


class Target(NamedTuple):
    """A target's parts; `path` is decoded as WSGI wants it (bytes as Latin-1), `host` is of the absolute form alone."""

    path: str
    query: str
    host: str | None = None


def parse(method: str, raw: str) -> Target:
    """Return the parts of the target of a request; raise `Refused` for one that HTTP does not allow."""
    if method == "CONNECT":
        raise Refused(501, "CONNECT is for proxies")
    if raw[0] == "/":
        path, _, query = raw.partition("?")
        return Target(_decoded(path), query)
    if raw == "*" and method == "OPTIONS":
        return Target("", "")
    return _parse_absolute(method, raw)


def _parse_absolute(method: str, raw: str) -> Target:
    match = _ABSOLUTE.fullmatch(raw)
    if match is None:
        raise Refused(400, "the request target is neither a path nor an http URI")
    host, path, query = match.groups()
    check_host(host)
    if path is None and query is None and method == "OPTIONS":
        return Target("", "", host)  # the asterisk, as a proxy is told it: RFC 9112, 3.2.4
    return Target(_decoded(path or "/"), query or "", host)


def check_host(host: str) -> None:
    """Raise `Refused` unless `host` is a host name or address, with or without a port (RFC 9110, section 7.2)."""
    if len(host) > _LONGEST_HOST or not _is_host(host):
        raise Refused(400, "malformed Host")


def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    ipv6, name, port = match.groups()
    if int(port or 0) > 65535:
        return False
    if ipv6 is None:
        return bool(name) or port is None  # none at all is right where a URI has none; see RFC 9110, 4.2.1
    try:
        return bool(inet_pton(AF_INET6, ipv6))
    except OSError:
        return False


def _decoded(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1") if "%" in path else path
