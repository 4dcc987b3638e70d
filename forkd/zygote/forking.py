"""How a worker comes to be the launcher's child although a zygote forks it: by two forks, the first of which ends."""

from __future__ import annotations

import os
import posix  # its `waitpid` stays the plain one in a process where eventlet has replaced that of `os`
import signal
from functools import partial
from select import POLLIN, poll  # as in the zygote
from typing import TYPE_CHECKING

from forkd import channel, process
from forkd.errors import ChannelClosed, ForkdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.channel import Channel


def fork_orphan(life: Callable[[], int], adopter: int) -> tuple[int, int]:
    """Fork a process that runs `life` as a child of the subreaper `adopter`; give its pid and a pidfd of it.

    It leads a process group of its own and gets TERM when the adopter ends. Raises OSError or
    ForkdError when there is none.
    """
    there, here = channel.pair()
    try:
        middle = process.fork(partial(_be_middle, (here, there), life, adopter), _keep)
        there.close()
        posix.waitpid(middle, 0)
        return _release(here)
    finally:
        there.close()
        here.close()


def _release(here: Channel) -> tuple[int, int]:
    """Let the orphan go: now that the middle one is dead it has its new parent."""
    try:
        born = here.receive()
    except ChannelClosed:
        born = None
    if born is None or not born.fds:
        msg = f"cannot fork: {born.body['error'] if born else 'the process in the middle died'}"
        raise ForkdError(msg)
    here.send({"type": "go"})
    return born.body["pid"], born.fds[0]


def _be_middle(ends: tuple[Channel, Channel], life: Callable[[], int], adopter: int) -> int:
    there = ends[1]
    try:
        pid = process.fork(partial(_be_orphan, ends, life, adopter), _default_signals)
        # A pidfd made by the parent is surely of this child, dead or alive.
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        there.send(channel.failed(str(error), ""))
        return 1
    there.send({"type": "born", "pid": pid}, [pidfd])
    return 0


def _be_orphan(ends: tuple[Channel, Channel], life: Callable[[], int], adopter: int) -> int:
    here, there = ends
    here.close()
    waiting = poll()
    waiting.register(there.fileno(), POLLIN)
    waiting.poll()
    try:
        there.receive()
    except ChannelClosed:
        return 1  # the zygote died, so it is unknown whose child this is, and nobody would look after it
    there.close()
    os.setpgid(0, 0)
    process.die_with_parent(signal.SIGTERM)
    # Asked after that, lest the adopter's death fall in between.
    return life() if os.getppid() == adopter else 1


def _keep() -> None:
    """Leave the signals alone: the middle process does with them what the zygote does."""


def _default_signals() -> None:
    # HUP and what else is harmless to the zygote stays so: a worker that starts has nothing to reset yet.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
