"""A broker's address, `amqp://user@host/vhost?password_file=…`: what it means, and how it is shown without its secrets.

It opens no connection, and imports neither kombu nor OpenSSL: the configuration's reader checks addresses by it, too.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from forkd import smallfile
from forkd.errors import ForkdError

EXPECTED = "amqp://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/VHOST][?OPTION=VALUE&…]"
_URL = re.compile(r"(?P<scheme>amqps?)://(?P<place>[^/?#\s]*)(/(?P<vhost>[^?#\s]*))?(\?(?P<query>[^#\s]*))?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?")
_PORTS = {"amqp": 5672, "amqps": 5671}
_FILES = ("password_file", "ca", "cert", "key")
_NUMBERS = {"heartbeat": (1, 3600), "waiting": (1, 1_000_000)}
_LONGEST = 4096  # bytes of a password


class Address(NamedTuple):
    """Where the brokers of one cluster are, and as whom to come; the same for workers and clients."""

    hosts: tuple[str, ...]  # `HOST:PORT`
    tls: bool
    vhost: str
    user: str
    given_password: str
    password_file: str
    ca: str  # a file of certificates; empty: what the system trusts
    cert: str
    key: str
    heartbeat: int  # seconds
    waiting: int  # calls that may wait in the queue of a topic

    @property
    def shown(self) -> str:
        """Where it leads, for people; no user, no password."""
        return f"{', '.join(self.hosts)}{'' if self.vhost == '/' else f' ({self.vhost})'}"

    @property
    def password(self) -> str:
        """The password, from its file if it has one, as it is now. Raises `ForkdError`, which never shows it."""
        if not self.password_file:
            return self.given_password
        try:
            return smallfile.read(self.password_file, _LONGEST).data.decode().removesuffix("\n")
        except ValueError as error:  # a UnicodeDecodeError, too, whose text would show some of it
            why = "is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise ForkdError(f"password_file: {self.password_file}: {why}") from None


def is_address(text: str) -> bool:
    """Tell whether a transport is meant to be a broker's address."""
    return text.startswith(("amqp://", "amqps://"))


def parse(text: str) -> Address:
    """Return what an address means. Raises `ForkdError`, whose text shows nothing of the part that may be secret."""
    url = _URL.fullmatch(text)
    if url is None:
        raise ForkdError(f"expected {EXPECTED}")
    try:
        options = dict(parse_qsl(url["query"], keep_blank_values=True, strict_parsing=True)) if url["query"] else {}
    except ValueError:
        raise ForkdError(f"expected {EXPECTED}") from None
    login, at, hosts = url["place"].rpartition("@")
    user, colon, password = login.partition(":")
    _check(options, url["scheme"], has_password=bool(colon))
    if at and not user:
        raise ForkdError("expected a user before the @")
    anonymous = not at and not options.get("cert")
    return Address(
        hosts=tuple(_host(host, _PORTS[url["scheme"]]) for host in hosts.split(",")),
        tls=url["scheme"] == "amqps",
        vhost=unquote(url["vhost"] or "") or "/",
        user="guest" if anonymous else unquote(user),
        given_password="guest" if anonymous else unquote(password),
        password_file=options.get("password_file", ""),
        ca=options.get("ca", ""),
        cert=options.get("cert", ""),
        key=options.get("key", ""),
        heartbeat=int(options.get("heartbeat", 15)),
        waiting=int(options.get("waiting", 10_000)),
    )


def _host(text: str, port: int) -> str:
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ForkdError("expected HOST or HOST:PORT, percent-encoded what a user or a password has of / ? # @")
    return f"{found['name']}:{found['port'] or port}"


def _check(options: dict[str, str], scheme: str, *, has_password: bool) -> None:
    for name, value in options.items():
        if name in _NUMBERS:
            least, most = _NUMBERS[name]
            if not re.fullmatch(r"[0-9]{1,7}", value) or not least <= int(value) <= most:
                raise ForkdError(f"{name}: expected a number from {least} to {most}, got {value!r:.40}")
        elif name not in _FILES:
            known = ", ".join((*_FILES, *_NUMBERS))
            raise ForkdError(f"an option of an address is one of {known}")
        elif not os.path.isabs(value):
            raise ForkdError(f"{name}: expected an absolute path, got {value!r:.80}")
    if has_password and "password_file" in options:
        raise ForkdError("password_file: there is a password before the @ already")
    if scheme == "amqp" and not options.keys().isdisjoint(("ca", "cert", "key")):
        raise ForkdError("ca, cert and key make sense only with amqps://")
    if ("cert" in options) != ("key" in options):
        raise ForkdError("cert and key go together")
