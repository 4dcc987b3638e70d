"""Tells the service manager how the launcher is (sd_notify(3), systemd 252 and later); it must never block or raise."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# While starting, reloading or stopping, systemd's own timeout is pushed ahead by EXTEND seconds, every EXTEND / 2: a
# drain may take as long as its stop_timeout says, and a launcher that hangs is still noticed within EXTEND.
EXTEND = 20.0
RETRY = 0.25  # seconds until a message that systemd's full queue refused is tried again
_OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_ANNOUNCEMENTS = {"running": "READY=1", "reloading": "RELOADING=1", "stopping": "STOPPING=1"}


class Manager(NamedTuple):
    """What the service manager told this process: where it listens ("": nowhere), and how often it wants to hear."""

    address: str
    watchdog: float  # seconds between two signs of life; 0: none wanted


def take_environment(environ: MutableMapping[str, str], pid: int) -> Manager:
    """Read the variables of sd_notify(3) and sd_watchdog_enabled(3), and remove them: they are not for workers."""
    address, usec, owner = (environ.pop(name, "") for name in _OWN_VARIABLES)
    if not address.startswith(("/", "@")):  # nobody, or a kind of address that systemd 252 does not give
        return Manager("", 0.0)
    wanted = usec.isdecimal() and owner in {"", str(pid)}
    return Manager("\0" + address[1:] if address[0] == "@" else address, int(usec) / 2e6 if wanted else 0.0)


class Notifier:
    """Reduces the difference between what is so and what was said; `deadline` is when it has more to say.

    States are those of the launcher: `starting`, `running`, `reloading`, `stopping`. Times are monotonic seconds.
    """

    __slots__ = ("_extend_at", "_manager", "_retry_at", "_said", "_sock", "_state", "_status", "_watchdog_at")

    def __init__(self, manager: Manager, now: float) -> None:
        self._manager = manager
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if manager.address else None
        self._state, self._status = "starting", ""
        self._said = ("starting", "")
        self._watchdog_at = now if manager.watchdog else None
        self._extend_at: float | None = now
        self._retry_at: float | None = None

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return self._sock is not None

    def deadline(self) -> float | None:
        """When `tick` has something to say; None: when something changes."""
        if self._sock is None:
            return None
        return min((at for at in (self._watchdog_at, self._extend_at, self._retry_at) if at is not None), default=None)

    def observe(self, state: str, status: str) -> None:
        """Take note of the launcher's state, and of how it is in words."""
        if state != "running" and self._state == "running":
            self._extend_at = 0.0
        elif state == "running":
            self._extend_at = None
        self._state, self._status = state, " ".join(status.split())

    def repeat(self) -> None:
        """Say the state again: systemd wants a RELOADING=1 that is younger than its own request."""
        self._said = ("", self._said[1])

    def tick(self, now: float) -> None:
        """Say what changed or fell due; called at each turn of the loop, so that a sign of life means that it turns."""
        if self._sock is None:
            return
        lines = self._changes() + self._due(now)
        if not lines:
            return
        if not _sent(self._sock, "\n".join(lines), self._manager.address):
            self._retry_at = now + RETRY
            return
        self._said, self._retry_at = (self._state, self._status), None
        if self._watchdog_at is not None and now >= self._watchdog_at:
            self._watchdog_at = now + self._manager.watchdog
        if self._extend_at is not None and now >= self._extend_at:
            self._extend_at = now + EXTEND / 2

    def close(self) -> None:
        """Say nothing more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _changes(self) -> list[str]:
        lines = []
        if self._state != self._said[0] and self._state in _ANNOUNCEMENTS:
            lines.append(_ANNOUNCEMENTS[self._state])
            if self._state == "reloading":
                lines.append(f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        if self._status != self._said[1]:
            lines.append(f"STATUS={self._status}")
        return lines

    def _due(self, now: float) -> list[str]:
        lines = []
        if self._watchdog_at is not None and now >= self._watchdog_at:
            lines.append("WATCHDOG=1")
        if self._extend_at is not None and now >= self._extend_at:
            lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTEND * 1e6)}")
        return lines


def _sent(sock: socket.socket, text: str, address: str) -> bool:
    try:
        with contextlib.suppress(ConnectionError, FileNotFoundError):  # the manager is gone: nobody is left to be told
            sock.sendto(text.encode(), socket.MSG_DONTWAIT, address)
    except OSError:  # its queue is full, or the system has no memory just now
        return False
    return True
