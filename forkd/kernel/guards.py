"""Processes that look after workers that have no zygote, and zygotes that import, should the launcher be killed."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from select import EPOLLIN, epoll
from typing import TYPE_CHECKING

from forkd import process
from forkd.kernel.offspring import Zygote
from forkd.undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkd.kernel.offspring import Offspring

_HEEDED_BY_LAUNCHER = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_FIRST = 3  # descriptor after the standard ones


class Guards:
    """At most one for each service: a fork of the launcher, so it may kill whom the launcher may.

    It ends when the last that it looks after has, and says nothing, so it needs no channel.
    """

    __slots__ = ("_pids", "_reset")

    def __init__(self, reset: Callable[[], None]) -> None:
        """`reset` is what a forked child does first."""
        self._reset = reset
        self._pids: dict[str, int] = {}

    def post(self, service: str, wards: Sequence[tuple[Offspring, int]]) -> None:
        """Have these looked after, each given with its pid; they include whom the present guard has.

        When there is no process to be had, the present guard stays.
        """
        # The session tells later whether a pid is still theirs. A zygote makes its own, and may not have done so yet.
        sessions = [(pid, pid if isinstance(one, Zygote) else os.getsid(pid)) for one, pid in wards]
        timeout = max(one.spec.stop_timeout for one, _ in wards)
        guard = partial(_stand_guard, service, sessions, timeout, os.getpid())
        with contextlib.suppress(OSError):
            pid = process.fork(guard, partial(_heed_nothing, self._reset))
            self.dismiss(service)
            self._pids[service] = pid

    def dismiss(self, service: str) -> None:
        """End the guard of a service, if it has one."""
        if service in self._pids:
            os.kill(self._pids.pop(service), signal.SIGKILL)

    def ended(self, pid: int) -> None:
        """Forget a guard that has died, and is to be reaped; any other process is none."""
        self._pids = {service: guard for service, guard in self._pids.items() if guard != pid}


def _heed_nothing(reset: Callable[[], None]) -> None:
    reset()
    for number in _HEEDED_BY_LAUNCHER:
        signal.signal(number, signal.SIG_IGN)


def _stand_guard(service: str, sessions: Sequence[tuple[int, int]], timeout: float, launcher: int) -> int:
    """Wait for their end or the launcher's, whose fork this is; at the launcher's, see them to theirs."""
    os.setsid()
    process.set_title(f"forkd: {service} undertaker")
    process.raise_descriptor_limit()
    os.closerange(_FIRST, os.sysconf("SC_OPEN_MAX"))  # nothing of the launcher's may stay open for its heirs
    undertaker = Undertaker()
    for pid, session in sessions:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            if session in (pid, os.getsid(pid)):
                undertaker.take_in(pid, pidfd, session)
    poller = epoll()
    poller.register(undertaker, EPOLLIN)
    with contextlib.suppress(ProcessLookupError):
        poller.register(os.pidfd_open(launcher), EPOLLIN)
        while undertaker.wards and os.getppid() == launcher:
            poller.poll()
            undertaker.bury()
    undertaker.finish(timeout)
    return 0
