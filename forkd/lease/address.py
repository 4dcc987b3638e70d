"""Where leases are kept, as one URL says it: which backend, for how long a lease lasts, and where the password is."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from forkd import smallfile
from forkd.errors import ForkdError

BACKENDS = {"redis": "redis", "rediss": "redis", "postgresql": "postgresql", "postgres": "postgresql"}
SHAPE = r"(rediss?|postgres(ql)?)://.*"
EXPECTED = "redis://HOST:PORT/DATABASE or postgresql://USER@HOST/DATABASE"
DEFAULT_TTL, LEAST_TTL, MOST_TTL = 10.0, 1.0, 3600.0
LONGEST_URL = 2000  # it travels with the rest of a service's settings in one message
_LONGEST_PASSWORD = 1 << 12
_REDIS_PATH = re.compile(r"/?|/[0-9]{1,9}")  # the driver takes any other for 0
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


class Address(NamedTuple):
    """A backend, what its driver is told (`url`, without a password), the seconds of a lease, and the password.

    That stands in `password`, or in the file `password_file`, which is read for each connection.
    """

    backend: str
    url: str
    ttl: float
    password: str | None
    password_file: str | None

    def __repr__(self) -> str:
        """Show what may be shown."""
        return f"Address({self.shown})"

    @property
    def shown(self) -> str:
        """What a log may say: without what follows the `?`, which may hold a driver's secrets."""
        return self.url.partition("?")[0]

    def secret(self) -> str | None:
        """Return the password as it is now. Raise `ForkdError` when its file cannot be read."""
        if self.password_file is None:
            return self.password
        try:
            data = smallfile.read(self.password_file, _LONGEST_PASSWORD).data
        except ValueError as error:
            raise ForkdError(f"password_file {self.password_file}: {error}") from None
        return os.fsdecode(data.removesuffix(b"\n"))


def rebased(text: str, folder: str) -> str:
    """Return a URL whose `password_file` does not depend on where a process is: a relative one starts at `folder`.

    Raise as `parse` does.
    """
    parse(text)
    place, mark, query = text.partition("?")
    pairs = [
        (key, os.path.normpath(os.path.join(folder, value)) if key == "password_file" else value)
        for key, value in parse_qsl(query, keep_blank_values=True)
    ]
    return f"{place}{mark}{urlencode(pairs, quote_via=quote)}"


def parse(text: str) -> Address:
    """Return the address that a URL names. Raise `ValueError` with a sentence that shows nothing of the URL."""
    if len(text) > LONGEST_URL:
        raise ValueError(f"expected at most {LONGEST_URL} characters")
    if not text.isprintable() or not re.fullmatch(SHAPE, text):
        raise ValueError(f"expected {EXPECTED}")
    parts = _split(text)
    query, own = [], {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in ("ttl", "password_file"):
            own[key] = value
        else:
            query.append((key, value))
    account, at, host = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    if colon and "password_file" in own:
        raise ValueError("expected a password or a password_file, got both")
    file = own.get("password_file")
    if file == "":
        raise ValueError("password_file: expected a path, got nothing")
    plain = parts._replace(netloc=f"{user}{at if user else ''}{host}", query=urlencode(query, quote_via=quote))
    return Address(
        BACKENDS[parts.scheme],
        plain.geturl() if host or not parts.path else _without_host(plain),
        _ttl(own.get("ttl")),
        unquote(password) if colon else None,
        file,
    )


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        is_redis = BACKENDS[parts.scheme] == "redis"
        _ = is_redis and parts.port  # which is looked at only now; of PostgreSQL there may be several
    except ValueError:
        raise ValueError(f"expected {EXPECTED}") from None
    if is_redis and not (parts.hostname and _REDIS_PATH.fullmatch(parts.path)):
        raise ValueError("expected a host, and the number of a database, as in redis://127.0.0.1:6379/0")
    return parts


def _without_host(parts: SplitResult) -> str:
    """Return the URL of a server on its own Unix socket, of which urllib forgets the empty host."""
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def _ttl(text: str | None) -> float:
    if text is None:
        return DEFAULT_TTL
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not LEAST_TTL <= seconds <= MOST_TTL:
        raise ValueError(f"ttl: expected a duration of {LEAST_TTL:g}s to 1h, such as ttl=10s")
    return seconds
