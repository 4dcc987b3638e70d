"""What ends an import when the launcher dies: code that is being imported may never return, nor heed a signal."""

from __future__ import annotations

import contextlib
import os
import posix  # its `waitpid` stays the plain one in a process where eventlet has replaced that of `os`
import signal
from select import POLLIN, poll  # eventlet takes it away from `select`
from typing import TYPE_CHECKING

from forkd import process
from forkd.errors import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.zygote import Life
    from forkd.zygote.undertaker import Undertaker

_SAME_MOMENT = 100  # ms in which launcher and zygote end when they end together


@contextlib.contextmanager
def guarded(life: Life, undertaker: Undertaker) -> Iterator[None]:
    """Have the zygote killed if the launcher dies while the block runs; afterwards the channel's end says it.

    When there are workers to bury, left by an earlier zygote, a process of its own does that meanwhile.
    """
    process.die_with_parent(signal.SIGKILL)
    if os.getppid() != life.launcher_pid:
        raise ChannelClosed
    if undertaker.wards:
        with _another_undertaker(life, undertaker):
            yield
    else:
        yield
    process.die_with_parent(0)


@contextlib.contextmanager
def _another_undertaker(life: Life, undertaker: Undertaker) -> Iterator[None]:
    launcher = os.pidfd_open(life.launcher_pid)
    read, write = os.pipe2(os.O_CLOEXEC)

    def guard() -> int:
        process.set_title(f"forkd: {life.spec.name} undertaker gen {life.generation}")
        os.close(write)
        for listener in life.listeners.values():
            listener.close()
        if _launcher_ended(launcher, read):
            undertaker.finish(life.spec.stop_timeout)
        return 0

    pid = process.fork(guard, lambda: None)
    os.close(launcher)
    os.close(read)
    try:
        yield
    finally:
        os.close(write)
        with contextlib.suppress(ChildProcessError):  # the imported code may have reaped it
            posix.waitpid(pid, 0)


def _launcher_ended(launcher: int, zygote: int) -> bool:
    """Wait until one of both ends, and tell which: the zygote closes its pipe also when it has imported."""
    poller = poll()
    poller.register(zygote, POLLIN)
    poller.register(launcher, POLLIN)
    ended = {fd for fd, _ in poller.poll()}
    # The launcher's death ends the zygote too, and who is seen first is chance.
    poller.unregister(zygote)
    return launcher in ended or bool(poller.poll(_SAME_MOMENT))
