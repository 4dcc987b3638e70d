"""What a request target means (RFC 9112, section 3.2), and what a Host field may say."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from forkd.wsgi.refusal import Refused

_ABSOLUTE = re.compile(r"https?://([^/?@]+)(/[^?]*)?(?:\?(.*))?", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?")


class Target(NamedTuple):
    """A target's parts; `path` is decoded as WSGI wants it (bytes as Latin-1), `host` is of the absolute form alone."""

    path: str
    query: str
    host: str | None = None


def parse(method: str, raw: str) -> Target:
    """Return the parts of the target of a request; raise `Refused` for one that HTTP does not allow."""
    if raw[0] == "/":
        path, _, query = raw.partition("?")
        return Target(_decoded(path), query)
    if method == "CONNECT":
        raise Refused(501, "CONNECT is for proxies")
    if raw == "*" and method == "OPTIONS":
        return Target("", "")
    match = _ABSOLUTE.fullmatch(raw)
    if match is None:
        raise Refused(400, "the request target is neither a path nor an http URI")
    host, path, query = match.groups()
    check_host(host)
    return Target(_decoded(path or "/"), query or "", host)


@lru_cache(1024)
def check_host(host: str) -> None:
    """Raise `Refused` unless `host` is a host name or address, with or without a port (RFC 9110, section 7.2)."""
    if not _HOST.fullmatch(host):
        raise Refused(400, "malformed Host")


def _decoded(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1") if "%" in path else path
