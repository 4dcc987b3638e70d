"""How a worker comes to be the launcher's child although a zygote forks it: by two forks, the first of which ends.

Forking a large process twice takes longer than all the rest of a worker's start, so it is done
ahead: a spare process waits, fully forked, until a worker is needed.
"""

from __future__ import annotations

import contextlib
import os
import posix  # its `waitpid` stays the plain one in a process where eventlet has replaced that of `os`
import signal
from functools import partial
from select import POLLIN, poll  # eventlet takes it away from `select`
from typing import TYPE_CHECKING, NamedTuple

from forkd import channel, process
from forkd.errors import ChannelClosed, ForkdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.channel import Channel, Message

_LAST_MOMENT = 1000  # ms that a spare has to end, which takes a few


class Spare(NamedTuple):
    """A process that waits for its orders as a child of the launcher; when `orders` is closed without any, it exits."""

    pid: int
    pidfd: int
    orders: channel.Channel

    def close(self) -> None:
        """Let it go with its orders; the pidfd is somebody else's by then."""
        self.orders.close()

    def dismiss(self) -> None:
        """Let it go without orders, and return when it has ended: it holds the listeners too."""
        self.orders.close()
        poller = poll()
        poller.register(self.pidfd, POLLIN)
        if not poller.poll(_LAST_MOMENT):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # somebody has stopped it
            poller.poll(_LAST_MOMENT)
        os.close(self.pidfd)


def fork_ahead(prepare: Callable[[], None], life: Callable[[Message], int], adopter: int) -> Spare:
    """Fork a process that is a child of the subreaper `adopter`: it runs `prepare` and waits, and then `life`.

    Before its life it becomes the leader of a process group and asks for TERM at the adopter's end.
    Raises OSError or ForkdError when there is none to be had.
    """
    here, there = channel.pair(attested=False)
    try:
        orphan = partial(_be_orphan, prepare, life, adopter)
        middle = process.fork(partial(_be_middle, here, there, orphan), keep_signals)
        there.close()
        posix.waitpid(middle, 0)
        # Now that the middle one is dead, the orphan has its new parent.
        return _meet(here)
    except BaseException:
        here.close()
        raise
    finally:
        there.close()


def _meet(here: Channel) -> Spare:
    try:
        born = here.receive()
    except ChannelClosed:
        born = None
    if born is None or not born.fds:
        msg = f"cannot fork: {born.body['error'] if born else 'the process in the middle died'}"
        raise ForkdError(msg)
    return Spare(born.body["pid"], born.fds[0], here)


def _be_middle(here: Channel, there: Channel, orphan: Callable[[Channel], int]) -> int:
    here.close()
    try:
        pid = process.fork(partial(orphan, there), _default_signals)
        # A pidfd that the parent makes is surely of this child, dead or alive.
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        there.send(channel.failed(str(error), ""))
        return 1
    there.send({"type": "born", "pid": pid}, [pidfd])
    return 0


def _be_orphan(prepare: Callable[[], None], life: Callable[[Message], int], adopter: int, there: Channel) -> int:
    prepare()
    there.wait()
    try:
        orders = there.receive()
    except ChannelClosed:
        return 0  # the zygote has ended, and nobody would look after this one
    there.close()
    if orders is None:
        return 1
    os.setpgid(0, 0)
    process.die_with_parent(signal.SIGTERM)
    # Asked after that, lest the adopter's death fall in between.
    return life(orders) if os.getppid() == adopter else 1


def keep_signals() -> None:
    """Leave the signals alone, in a fork that is to do with them what the zygote does."""


def _default_signals() -> None:
    # HUP and what else is harmless to the zygote stays so: a worker that starts has nothing to reset yet.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
