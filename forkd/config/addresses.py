"""Addresses that a service listens on, as `bind` has them; it opens none and resolves no name."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from forkd.config.names import Misfit, NotYet, path

if TYPE_CHECKING:
    from forkd.config.written import Text

EXPECTED = '"host:port" with an IP address, "[::1]:port" or "unix:/path"'
SHAPE = r"([^:]*|\[[^][]+\]):[0-9]{1,5}|unix:.+"
LONGEST_UNIX_PATH = 107  # sun_path without its closing NUL, unix(7)
PROXY_EXPECTED = "an IP address, a network such as 10.0.0.0/8, unix or *"
_ADDRESS = re.compile(r"(\[(?P<six>[^][]+)\]|(?P<four>[^][:]*)):(?P<port>[0-9]{1,5})")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- compared with, not listened on
_NAMES = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104 -- because the address says so


class Parts(NamedTuple):
    """An address taken apart; `host` is "unix" and `port` 0 for a path."""

    host: str
    port: int
    path: str = ""


def read(text: Text) -> str:
    """Return an address with its path made absolute. Raises Misfit where it is none."""
    if text.startswith("fd:"):
        raise NotYet
    if not text.startswith("unix:"):
        parts(text)
        return str(text)
    name = text[len("unix:") :]
    where = type(text)(name)
    where.folder = text.folder
    found = path(where)
    if not name or len(os.fsencode(found)) > LONGEST_UNIX_PATH:
        raise Misfit(f"expected a path of 1 to {LONGEST_UNIX_PATH} bytes after unix:")
    return f"unix:{found}"


def parts(address: str) -> Parts:
    """Return the host and the port, or the path, of an address. Raises Misfit where it is none."""
    if address.startswith("unix:"):
        return Parts("unix", 0, address[len("unix:") :])
    found = _ADDRESS.fullmatch(address)
    if not found or int(found["port"]) > 65535:
        raise Misfit
    six, four = found["six"], found["four"] or ""
    try:
        host = ipaddress.IPv6Address(six) if six else ipaddress.IPv4Address(_NAMES.get(four, four))
        return Parts(str(host), int(found["port"]))
    except ipaddress.AddressValueError:
        raise Misfit(f"expected {EXPECTED} (a name is not looked up)") from None


def proxy(text: Text) -> str:
    """Return an address or a network in its shortest form, or a word that stands for some. Raises Misfit for others."""
    if text in ("unix", "*"):
        return str(text)
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise Misfit(f"expected {PROXY_EXPECTED}{_host_bits(error)}") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _host_bits(error: ValueError) -> str:
    return " (it has bits of a host behind those of the network)" if "host bits" in str(error) else ""


def clash(one: str, other: str) -> bool:
    """Tell whether two addresses cannot both be listened on."""
    left, right = parts(one), parts(other)
    if left.path or right.path:
        return left.path == right.path
    if left.port == 0 or left.port != right.port or (":" in left.host) != (":" in right.host):
        return False
    return left.host == right.host or left.host in _EVERYWHERE or right.host in _EVERYWHERE
