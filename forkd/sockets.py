"""Listening sockets from addresses as they stand in a configuration; it accepts no connection and resolves no name.

An address is `host:port` with an IPv4 address, `[host]:port` with an IPv6 one, or `unix:/path`.
`*` and an empty host mean every IPv4 address, `[::]` every IPv6 one, `localhost` means 127.0.0.1.
Other names are refused: to resolve one could block for as long as a name server likes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from forkd.errors import ForkdError

PRIVATE = "healthcheck"  # what stands for the address of the listener that is one worker's alone
_NAMES = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}  # noqa: S104 -- because the address says so


def listen(
    address: str,
    backlog: int,
    mode: int | None = None,
    owner: tuple[int, int] | None = None,
    *,
    reuse_port: bool = False,
) -> socket.socket:
    """Open a listener, non-blocking and not inherited over exec.

    `mode` and `owner` (uid, gid) are those of a Unix socket's file. A socket file that nobody
    answers on is replaced. `reuse_port` is as in `share`. Raises ForkdError, which names the address and the cause.
    """
    try:
        path = unix_path(address)
        sock = _bind_tcp(address, reuse_port=reuse_port) if path is None else _bind_unix(path, mode, owner)
        try:
            sock.setblocking(False)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        msg = f"cannot listen on {address}: {_cause(error)}"
        if error.errno == errno.EADDRINUSE and unix_path(address) is None:
            msg += _way_out(address, reuse_port=reuse_port)
        raise ForkdError(msg) from None
    return sock


def share(sock: socket.socket) -> None:
    """Let other programs of the user who opened a listener listen on its port, if they want to share it as well.

    The kernel spreads connections over them. It works at any time, but there is no way back: a kernel that has shared
    a port goes on letting others in. A Unix socket is not shared.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def unix_path(address: str) -> str | None:
    """Give the path of a `unix:` address; None for any other."""
    return address[len("unix:") :] if address.startswith("unix:") else None


def label(sock: socket.socket) -> str:
    """Give the address that a socket is bound to, as it would stand in a configuration, with its real port."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _bind_tcp(address: str, *, reuse_port: bool) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        msg = f"cannot listen on {address}: expected host:port, [host]:port or unix:/path"
        raise ForkdError(msg)
    bracketed = host.startswith("[") and host.endswith("]")
    family = socket.AF_INET6 if bracketed else socket.AF_INET
    host = host[1:-1] if bracketed else _NAMES.get(host, host)
    try:
        where = socket.getaddrinfo(host, int(port), family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
    except socket.gaierror:
        msg = f"cannot listen on {address}: {host!r} is not an IP address"
        raise ForkdError(msg) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bracketed:  # else `[::]` would take the port of every IPv4 address too
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            share(sock)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _way_out(address: str, *, reuse_port: bool) -> str:
    """Say what sharing has to do with a port that is taken; tried, since the kernel does not tell who shares what."""
    if reuse_port:
        return " by a program that does not share it, or that is another user's"
    try:
        _bind_tcp(address, reuse_port=True).close()
    except OSError:
        return ""
    return "; who listens there shares it with programs that have `reuse_port: true`"


def _bind_unix(path: str, mode: int | None, owner: tuple[int, int] | None) -> socket.socket:
    _clear_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Nobody can connect before `listen`, so the file is never open to more than its mode says.
        if mode is not None:
            os.chmod(path, mode)
        if owner is not None:
            os.chown(path, *owner)
    except OSError:
        sock.close()
        raise
    return sock


def _clear_way(path: str) -> None:
    """Remove a socket file that a dead process has left; raise when something else stands there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        msg = "there is a file of that name, which is not a socket"
        raise OSError(msg)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        with contextlib.suppress(ConnectionRefusedError):
            with contextlib.suppress(BlockingIOError):  # someone listens and is busy
                probe.connect(path)
            msg = "somebody is listening there"
            raise OSError(msg)
    os.unlink(path)


def _cause(error: OSError) -> str:
    if error.errno is None:
        return str(error)
    text = os.strerror(error.errno)
    if isinstance(error, PermissionError):
        text += " (a port below 1024 or a foreign directory needs root)"
    return text[0].lower() + text[1:]
