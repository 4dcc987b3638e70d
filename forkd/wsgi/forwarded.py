"""Whom to believe who a client is: the proxies in front, and what they say in X-Forwarded-For and X-Forwarded-Proto."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_HOPS = 100
"""Addresses of an X-Forwarded-For that are looked at: the rightmost ones."""

_KEPT = 1024  # chains whose client is remembered
_LONGEST_KEPT = 200  # bytes of one, so that they take no more memory than that
# As proxies write them: with brackets around an IPv6 address or without, and with a port or without.
_HOP = re.compile(
    r"(?:(?P<four>[0-9.]{7,15})|\[(?P<six>[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)"
)
_UNIX_HOP = "unix:"  # what nginx calls who comes by a Unix socket


class Hop(NamedTuple):
    """One address of a chain, with its port if that is given; that of a Unix socket is empty, and no `number`."""

    address: str
    port: str
    number: IPv4Address | IPv6Address | None


class Proxies:
    """Those who are believed: by their address, for coming by a Unix socket, or because all are.

    `address in proxies` is asked of who connects. An empty address is that of a Unix socket.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        """Take addresses, networks, `unix` and `*`; raise `ForkdError` for anything else."""
        names = set(allowed)
        self._all = "*" in names
        self._lists_unix = "unix" in names
        self._networks = [_network(name) for name in names - {"*", "unix"}]
        self._remembered = lru_cache(_KEPT)(self._find_client)

    def __contains__(self, address: str) -> bool:
        return self._all or self.names(address)

    def names(self, address: str) -> bool:
        """Return whether an address is one of them by itself, and not because all are."""
        return self._lists(_number(address) if address else None)

    def interpret(self, environ: dict[str, Any]) -> None:
        """Write into an environ what a proxy that is believed says of the client; what makes no sense is ignored."""
        chain = environ.get("HTTP_X_FORWARDED_FOR")
        if chain is not None:
            client = self._remembered(chain) if len(chain) <= _LONGEST_KEPT else self._find_client(chain)
            if client is not None:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client.address, client.port
        schemes = environ.get("HTTP_X_FORWARDED_PROTO")
        if schemes is not None:
            _set_scheme(environ, schemes.rpartition(",")[2].strip(" \t").lower())

    def _find_client(self, chain: str) -> Hop | None:
        """Return the rightmost hop that is no proxy of ours, or the last before one that is no address.

        Each proxy has appended whom it was connected by. So a hop is true as long as all to its right are believed.
        """
        client = None
        for entry in reversed(chain.rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
            hop = _hop(entry.strip(" \t"))
            if hop is None:
                break
            client = hop
            if not (self._all or self._lists(hop.number)):
                break
        return client

    def _lists(self, number: IPv4Address | IPv6Address | None) -> bool:
        return self._lists_unix if number is None else any(number in network for network in self._networks)


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(name)
    except ValueError:
        raise ForkdError(f"forwarded_allow_ips: expected an address, a network, unix or *, got {name!r}") from None
    inner = getattr(network.network_address, "ipv4_mapped", None)
    return network if inner is None or network.prefixlen < 96 else IPv4Network((inner, network.prefixlen - 96))


def _number(address: str) -> IPv4Address | IPv6Address:
    """Return an address, one of IPv4 that is mapped into IPv6 as what it is; raise `ValueError` for anything else."""
    number = ip_address(address)
    return getattr(number, "ipv4_mapped", None) or number


def _hop(entry: str) -> Hop | None:
    if entry == _UNIX_HOP:
        return Hop("", "", None)
    match = _HOP.fullmatch(entry)
    if match is None or int(match["port"] or 0) > 65535:
        return None
    try:
        number = _number(match["four"] or match["six"] or match["bare"])
    except ValueError:
        return None
    return Hop(str(number), match["port"] or "", number)


def _set_scheme(environ: dict[str, Any], scheme: str) -> None:
    if scheme == "https":
        environ["wsgi.url_scheme"] = scheme
        environ["HTTPS"] = "on"  # PEP 3333, "environ Variables"
    elif scheme == "http":
        environ["wsgi.url_scheme"] = scheme
        environ.pop("HTTPS", None)
