"""How a WSGI server bounds its clients; built from a service's spec, or by hand for a server of one's own."""

from __future__ import annotations

from typing import NamedTuple

from forkd.core.spec import AccessLogSpec, TlsSpec


class Options(NamedTuple):
    """The limits of one `wsgi.Server`; durations in seconds, sizes in bytes."""

    keepalive_timeout: float = 5.0
    """How long an idle keep-alive connection is kept; 0: none is kept alive."""
    header_timeout: float = 10.0
    """How long a client may take to send a request head, from its first byte, or from connecting; 0: no limit."""
    request_line_limit: int = 8190
    """Longest request line, without its line end."""
    header_limit: int = 65536
    """Longest request head, all its lines and their line ends together."""
    body_limit: int = 0
    """Longest request body; 0: no limit."""
    backlog: int = 2048
    """Connections that the kernel queues before they are accepted."""
    reuse_port: bool = False
    """Whether other programs of the same user may listen on the same ports; Unix sockets are never shared so."""
    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1", "unix")
    """The proxies that are believed who a client is: addresses, networks, `unix`, `*`."""
    proxy_protocol: bool = False
    """Whether these proxies begin each connection with a header of the PROXY protocol."""
    access_log: AccessLogSpec = AccessLogSpec()
    """Where each request is logged, and how."""
    tls: TlsSpec = TlsSpec()
    """How the ports speak TLS."""
