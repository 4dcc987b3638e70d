"""Who sees the workers to their end when the launcher cannot: a stuck one heeds no signal but KILL."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from select import EPOLLIN, epoll  # bound here, since eventlet takes it away from `select`
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forkd.channel import Message


class Ward(NamedTuple):
    """A worker to look after; its session tells its process from a stranger's that was given the pid later."""

    pid: int
    pidfd: int
    session: int


class Undertaker:
    """The workers that live, each by a pidfd; a dead one is let go as soon as it is noticed."""

    def __init__(self) -> None:
        self._epoll = epoll()
        self._wards: dict[int, Ward] = {}

    def fileno(self) -> int:
        """Give the descriptor that is readable when a worker has died."""
        return self._epoll.fileno()

    @property
    def wards(self) -> int:
        """How many workers it looks after."""
        return len(self._wards)

    def take_in(self, pid: int, pidfd: int) -> None:
        """Look after one more worker; the pidfd is the undertaker's from now on."""
        try:
            self._wards[pidfd] = Ward(pid, pidfd, os.getsid(pid))
            self._epoll.register(pidfd, EPOLLIN)
        except ProcessLookupError:
            os.close(pidfd)  # it has died and been reaped

    def adopt(self, message: Message) -> None:
        """Take in the workers that the launcher's message brings, a pidfd each."""
        for pid, pidfd in zip(message.body["pids"], message.fds, strict=True):
            self.take_in(pid, pidfd)

    def bury(self, timeout: float = 0) -> list[Ward]:
        """Let go of the workers that have died, waiting at most so many seconds for one."""
        dead = [self._wards.pop(pidfd) for pidfd, _ in self._epoll.poll(timeout)]
        for ward in dead:
            self._epoll.unregister(ward.pidfd)
            os.close(ward.pidfd)
        return dead

    def finish(self, timeout: float) -> None:
        """Wait so many seconds for the workers to end, then kill them; what they have started ends with them."""
        deadline = time.monotonic() + timeout
        while self._wards and (left := deadline - time.monotonic()) > 0:
            for ward in self.bury(left):
                _kill_group(ward)
        for ward in self._wards.values():
            _kill_group(ward)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(ward.pidfd, signal.SIGKILL)  # in case it has left its group

    def close(self) -> None:
        """Let go of everything, as a forked worker must."""
        self._epoll.close()
        for pidfd in self._wards:
            os.close(pidfd)
        self._wards.clear()


def _kill_group(ward: Ward) -> None:
    # A leader that was reaped may leave members behind, who keep its pid from being given away.
    with contextlib.suppress(ProcessLookupError):
        if os.getsid(ward.pid) != ward.session:
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(ward.pid, signal.SIGKILL)
