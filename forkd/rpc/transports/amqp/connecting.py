"""How a connection to a broker is made: kombu connects, py-amqp greets the broker and declares what is needed there.

Both wait, in the thread that asks, native or green, a few seconds for each answer; none of it is done for a call.
"""

from __future__ import annotations

# Looking up a host's name imports it: a fork at that moment would wait for that import for ever.
import encodings.idna  # noqa: F401 -- as said
import os
import random
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import amqp
from kombu.connection import Connection
from kombu.transport import pyamqp

from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.rpc.transports.amqp.address import Address

PATIENCE = 5.0
"""Seconds for each step: to connect, and for each answer of a broker to what is declared."""

# A peer that is cut off is found out even where nobody expects a heartbeat of it.
_SOCKET = {
    socket.TCP_USER_TIMEOUT: 20_000,
    socket.TCP_KEEPIDLE: 20,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
}


class NoBroker(ForkdError):
    """No broker of an address can be reached; the text says why."""


class Refused(ForkdError):
    """A broker can be reached, and does not want us, or not so: no waiting mends it."""


class Guest(NamedTuple):
    """As what a connection is made: its name for the broker's operators, and its heartbeat in seconds, 0 for none."""

    name: str
    heartbeat: int = 0
    patience: float = PATIENCE


def connect(address: Address, guest: Guest, declare: Callable[[Any], None]) -> Any:
    """Return py-amqp's connection to one of the brokers, after `declare(connection)`. Raise `NoBroker` or `Refused`."""
    causes = []
    for host in random.sample(address.hosts, len(address.hosts)):
        try:
            return _connect(address, host, guest, declare)
        except (amqp.AccessRefused, amqp.NotAllowed, amqp.PreconditionFailed) as error:
            raise Refused(f"{host}: the broker refuses us: {error.reply_text}") from None
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"{host}: its certificate is not to be trusted: {error.verify_message}") from None
        except (OSError, amqp.AMQPError) as error:
            causes.append(f"{host}: {_cause(error)}")
    raise NoBroker(f"no broker can be reached: {'; '.join(causes)}")


def _connect(address: Address, host: str, guest: Guest, declare: Callable[[Any], None]) -> Any:
    name, _, port = host.rpartition(":")
    by_certificate = not address.user
    maker = Connection(
        hostname=name,
        port=int(port),
        userid=address.user,
        password=address.password,
        virtual_host=address.vhost,
        ssl=_tls(address, name) if address.tls else False,
        transport="pyamqp",
        login_method="EXTERNAL" if by_certificate else "PLAIN",
        heartbeat=guest.heartbeat,
        connect_timeout=guest.patience,
        transport_options={
            "client_properties": {"connection_name": guest.name, "product": "forkd"},
            "socket_settings": _SOCKET,
        },
    )
    maker.transport.Connection = _Careful
    connection = maker.transport.establish_connection()
    try:
        connection.sock.settimeout(guest.patience)
        declare(connection)
    except BaseException:
        connection.collect()
        raise
    return connection


class _Careful(pyamqp.Connection):
    """One that leaves no socket open when it fails, whatever it fails by."""

    def connect(self, *args: Any, **options: Any) -> Any:
        """As py-amqp's own."""
        try:
            return super().connect(*args, **options)
        except BaseException:
            self.collect()
            raise


def _tls(address: Address, name: str) -> dict[str, Any]:
    for path in filter(None, (address.ca, address.cert, address.key)):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise Refused(f"{path}: cannot read: {error.strerror}") from None
    return {
        "ca_certs": address.ca or None,
        "certfile": address.cert or None,
        "keyfile": address.key or None,
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": name.strip("[]"),
    }


def _cause(error: Exception) -> str:
    """Return why, without the numbers that some libraries put before it; nobody's password is in any of them."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno)  # eventlet has its name in the text's place
    return getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
