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


_LONGEST = 86400.0  # seconds; epoll_wait(2) takes no more than 24 days


class Ward(NamedTuple):
    """A worker to look after; its session tells its process from a stranger's that was given the pid later."""

    pid: int
    pidfd: int
    session: int


class Undertaker:
    """The workers that live, each by a pidfd, and those that are dead, until their parent, the launcher, reaps them.

    Only then their process groups are surely killed.
    """

    def __init__(self) -> None:
        self._epoll = epoll()
        self._launcher = os.getppid()
        self._wards: dict[int, Ward] = {}
        self._dead: dict[int, Ward] = {}  # by pid

    def fileno(self) -> int:
        """Give the descriptor that is readable when a worker has died."""
        return self._epoll.fileno()

    @property
    def wards(self) -> int:
        """How many living workers it looks after."""
        return len(self._wards)

    def take_in(self, pid: int, pidfd: int, session: int | None = None) -> None:
        """Look after one more worker, by default of the session that it is in; the pidfd is the undertaker's now."""
        try:
            self._wards[pidfd] = Ward(pid, pidfd, session or os.getsid(pid))
            self._epoll.register(pidfd, EPOLLIN)
            self._dead.pop(pid, None)  # reaped, so that its pid could be given away
        except ProcessLookupError:
            os.close(pidfd)  # it has died and been reaped

    def adopt(self, message: Message) -> None:
        """Take in the workers that the launcher's message brings, a pidfd each."""
        for pid, pidfd in zip(message.body["pids"], message.fds, strict=True):
            self.take_in(pid, pidfd)

    def bury(self) -> None:
        """Note who has died, and forget whom the launcher has reaped."""
        self._note_deaths(0)
        reaped = [pid for pid in self._dead if not _is_there(pid)]
        # Asked after that: if it is dead, others may have reaped them, who know of no groups.
        if os.getppid() == self._launcher:
            for pid in reaped:
                del self._dead[pid]

    def finish(self, timeout: float) -> None:
        """Wait so many seconds for the workers to end, then kill them; what they have started ends with them."""
        deadline = time.monotonic() + timeout
        self._clear_up()
        while self._wards and (left := deadline - time.monotonic()) > 0:
            self._note_deaths(min(left, _LONGEST))
            self._clear_up()
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
        self._dead.clear()

    def _note_deaths(self, timeout: float) -> None:
        for pidfd, _ in self._epoll.poll(timeout):
            ward = self._wards.pop(pidfd)
            self._dead[ward.pid] = ward
            self._epoll.unregister(pidfd)
            os.close(pidfd)

    def _clear_up(self) -> None:
        """Kill what the dead have left behind."""
        for ward in self._dead.values():
            _kill_group(ward)
        self._dead.clear()


def _is_there(pid: int) -> bool:
    """Tell whether a process lives, or is dead and not reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.getsid(pid)
        return True
    return False


def _kill_group(ward: Ward) -> None:
    # A leader that was reaped may leave members behind, who keep its pid from being given away.
    with contextlib.suppress(ProcessLookupError):
        if os.getsid(ward.pid) != ward.session:
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(ward.pid, signal.SIGKILL)
