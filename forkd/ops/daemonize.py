"""`forkd start --daemonize`: a launcher in its own session; who starts it waits until it is up, or knows why not."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct

from forkd import process
from forkd.errors import ForkdError
from forkd.log import STDERR, say

_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)
_MESSAGE = 4096  # bytes of what the launcher says at once


def daemonize(launcher: list[str]) -> int:
    """Run the launcher's command line in the background; return 0 when it is ready, else the exit code it ended with.

    Ready is what a service manager takes for it. Interrupted before that, or told to stop, it has the launcher stop.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        sock.bind("")  # the kernel chooses an abstract name, unix(7): no file to leave behind
        pid = process.fork(lambda: _become(launcher, sock.getsockname()), lambda: None)
        try:
            return _wait(sock, pid)
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)
            raise


def _become(launcher: list[str], address: bytes) -> int:
    """Become the launcher. It leads its session, and opens no terminal that could become that session's own."""
    os.setsid()
    os.environ["NOTIFY_SOCKET"] = "@" + address[1:].decode()
    process.precede_launcher()
    os.execv(launcher[0], launcher)  # noqa: S606 -- as meant


def _wait(sock: socket.socket, pid: int) -> int:
    """Wait for the launcher's READY=1, or for its end."""
    with open(os.pidfd_open(pid), "rb", buffering=0) as end:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(end, select.POLLIN)
        while end.fileno() not in {number for number, _ in poll.poll()}:
            if (status := _ready(sock, pid)) is not None:
                _report(status, pid)
                return 0
    return _ended(pid)


def _ready(sock: socket.socket, pid: int) -> str | None:
    """Return how the launcher is, in its own words, once it is ready; anybody can send to an abstract address."""
    data, ancillary, _, _ = sock.recvmsg(_MESSAGE, socket.CMSG_SPACE(_CREDENTIALS.size))
    senders = [_CREDENTIALS.unpack(raw)[0] for _, kind, raw in ancillary if kind == socket.SCM_CREDENTIALS]
    said = dict(line.partition("=")[::2] for line in data.decode(errors="replace").splitlines())
    return said.get("STATUS", "") if senders == [pid] and said.get("READY") == "1" else None


def _report(status: str, pid: int) -> None:
    say(f"forkd: pid {pid}, {status}")
    if os.isatty(STDERR):
        say("forkd: its log went to this terminal, and goes nowhere now; to keep it, start with 2>>FILE")


def _ended(pid: int) -> int:
    """Return the exit code of a launcher that did not come up; it has said why itself, unless it was told to stop."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code <= 0:
        raise ForkdError("the launcher was stopped before it was ready" + (f", by signal {-code}" if code else ""))
    return code
