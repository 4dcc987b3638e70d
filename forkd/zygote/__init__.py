"""The life of a zygote: it imports a service's code once, forks its workers, and is their undertaker.

It is single-threaded and runs no event loop, so that a fork of it is whole. It heeds its channel
alone: TERM, INT, QUIT and HUP are for workers, and when the channel ends, so does the zygote.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
from functools import partial
from select import POLLIN, poll  # eventlet takes it away from `select`, but the zygote itself stays plain
from typing import TYPE_CHECKING, NamedTuple

from forkd import channel, threadgroup, worker
from forkd.core.spec import ServiceSpec
from forkd.errors import ChannelClosed, ForkdError, ProtocolError
from forkd.zygote.forking import fork_orphan
from forkd.zygote.undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkd.channel import Channel, Message
    from forkd.service import Service

_log = logging.getLogger("forkd.zygote")


class Life(NamedTuple):
    """What the launcher wants of a zygote; `listeners` are for all of its workers, by address."""

    spec: ServiceSpec
    generation: int
    launcher_pid: int
    listeners: dict[str, socket.socket]


class Zygote:
    """A zygote that has imported its code; `build` is None when its workers are to do that."""

    def __init__(self, life: Life, upper: Channel, build: Callable[[], Service] | None) -> None:
        self._life = life
        self._channel = upper
        self._build = build
        self._undertaker = Undertaker()
        self._warned = False

    def run(self) -> None:
        """Fork when told to, until the launcher closes the channel or is gone; then see the workers to their end."""
        poller = poll()
        poller.register(self._channel.fileno(), POLLIN)
        poller.register(self._undertaker.fileno(), POLLIN)
        with contextlib.suppress(ChannelClosed):
            while True:
                poller.poll()
                self._undertaker.bury()
                if message := self._channel.receive():
                    self._obey(message)
        # First of all: somebody may be waiting to take the ports.
        for listener in self._life.listeners.values():
            listener.close()
        self._undertaker.finish(self._life.spec.stop_timeout)

    def _obey(self, message: Message) -> None:
        match message.body:
            case {"type": "fork", "id": int(id), "slot": int(slot), "listen": list(addresses)}:
                upper, board, *listeners = message.fds
                own = open_listeners(addresses, listeners)
                shared = self._life.listeners
                identity = worker.Identity(self._life.generation, slot, id)
                belongings = worker.Belongings(channel.from_fd(upper), board, {**shared, **own})
                self._fork(worker.Birth(self._life.spec, identity, belongings, self._build))
                belongings.channel.close()
                os.close(board)
                for listener in own.values():
                    listener.close()
            case {"type": "adopt", "pid": int(pid)}:
                self._undertaker.take_in(pid, message.fds[0])
            case _:
                msg = f"the launcher said {message.body['type']!r}, which this zygote does not understand"
                raise ProtocolError(msg)

    def _fork(self, birth: worker.Birth) -> None:
        self._warn_of_threads()
        sys.stdout.flush()  # what is left in the buffer would be written by every worker again
        gc.freeze()
        try:
            pid, pidfd = fork_orphan(partial(self._become, birth), self._life.launcher_pid)
        except (OSError, ForkdError) as error:
            worker.tell_failure(birth.belongings.channel, error)
        else:
            self._undertaker.take_in(pid, pidfd)

    def _become(self, birth: worker.Birth) -> int:
        """Be no zygote any more, but a worker."""
        self._channel.close()
        self._undertaker.close()
        try:
            birth.belongings.channel.send({"type": "spawned"})
        except ChannelClosed:
            return 1  # the launcher has given it up
        return worker.live(birth)

    def _warn_of_threads(self) -> None:
        tasks = len(os.listdir("/proc/self/task"))
        if tasks == 1 or self._warned:
            return
        self._warned = True
        names = ", ".join(threadgroup.strays(self._life.spec.concurrency)) or "without a name in Python"
        text = (
            "importing started %d threads (%s), which no worker will have, nor the locks they hold: set preload: false"
        )
        _log.warning(text, tasks - 1, names)


def open_listeners(addresses: Sequence[str], fds: Sequence[int]) -> dict[str, socket.socket]:
    """Make sockets of descriptors that came with these addresses, in their order."""
    return {address: socket.socket(fileno=fd) for address, fd in zip(addresses, fds, strict=True)}
