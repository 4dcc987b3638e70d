"""The life of a zygote: it imports a service's code once, forks its workers, and is their undertaker.

It is single-threaded and runs no event loop, so that a fork of it is whole. It heeds its channel
alone: TERM, INT, QUIT and HUP are for workers, and when the channel ends, so does the zygote.
"""

from __future__ import annotations

import _socket
import contextlib
import gc
import logging
import os
import socket
from select import POLLIN, poll  # eventlet takes it away from `select`, but the zygote itself stays plain
from typing import TYPE_CHECKING, NamedTuple

from forkd import channel, process, threadgroup, worker
from forkd.core.spec import ServiceSpec
from forkd.errors import ChannelClosed, ForkdError, ProtocolError
from forkd.rehearsal import rehearse
from forkd.zygote.forking import Spare, fork_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkd.channel import Channel, Message
    from forkd.service import Service
    from forkd.undertaker import Undertaker

_QUIET = 50  # ms without an order, after which a spare is forked: the workers that start now need the processor more

_log = logging.getLogger("forkd.zygote")


class Life(NamedTuple):
    """What the launcher wants of a zygote; `listeners` are for all of its workers, by address."""

    spec: ServiceSpec
    generation: int
    launcher_pid: int
    listeners: dict[str, socket.socket]


class Zygote:
    """A zygote that has imported its code, or leaves that to its workers; each of them calls `load`."""

    def __init__(
        self, life: Life, upper: Channel, load: Callable[[], Callable[[], Service]], undertaker: Undertaker
    ) -> None:
        self._life = life
        self._channel = upper
        self._load = load
        self._undertaker = undertaker
        self._spare: Spare | None = None
        self._retired = False
        # It needs one for each worker, of whom each is to find the limit as the code left it.
        self._descriptors = process.raise_descriptor_limit()

    def run(self) -> None:
        """Fork when told to, until retired and without workers; when the launcher is gone, see them to their end."""
        self._warn_of_threads()
        poller = poll()
        poller.register(self._channel.fileno(), POLLIN)
        poller.register(self._undertaker.fileno(), POLLIN)
        with contextlib.suppress(ChannelClosed):
            while not self._retired or self._undertaker.wards:
                if poller.poll(None if self._spare or self._retired else _QUIET):
                    if message := self._channel.receive():
                        self._obey(message)
                    self._undertaker.bury()
                else:
                    self._fork_spare()
        self._retire()
        self._undertaker.finish(self._life.spec.stop_timeout)

    def _obey(self, message: Message) -> None:
        match message.body:
            case {"type": "fork"}:
                self._spawn(message)
                for fd in message.fds:
                    os.close(fd)
            case {"type": "adopt"}:
                self._undertaker.adopt(message)
            case {"type": "retire"}:
                self._retire()
            case _:
                msg = f"the launcher said {message.body['type']!r}, which this zygote does not understand"
                raise ProtocolError(msg)

    def _retire(self) -> None:
        """Fork no more, and give up the listeners at once, so that clients are refused and the ports are free."""
        self._retired = True
        for listener in self._life.listeners.values():
            listener.close()
        if self._spare is not None:
            self._spare.dismiss()
            self._spare = None

    def _spawn(self, message: Message) -> None:
        """Have the spare become the worker; when there is none, or it has been killed, a new one."""
        try:
            spare = self._spare or self._fork()
            self._spare = None
            try:
                spare.orders.send(message.body, message.fds)
            except ChannelClosed:
                os.close(spare.pidfd)
                spare = self._fork()
                spare.orders.send(message.body, message.fds)
        except (OSError, ForkdError) as error:
            worker.tell_failure(channel.from_fd(os.dup(message.fds[0])), error)
            return
        spare.close()
        self._undertaker.take_in(spare.pid, spare.pidfd)

    def _fork_spare(self) -> None:
        # When there is no room for it now, whoever asks for a worker is told.
        with contextlib.suppress(OSError, ForkdError):
            self._spare = self._fork()

    def _fork(self) -> Spare:
        process.flush_output()  # what is left in the buffers would be written by every worker again
        gc.freeze()
        return fork_ahead(self._let_go, self._become, self._life.launcher_pid)

    def _let_go(self) -> None:
        """Be no zygote any more, but a spare; one whose code is yet to be imported has nothing to rehearse."""
        self._channel.close()
        self._undertaker.close()
        process.limit_descriptors(self._descriptors)
        process.set_title(f"forkd: {self._life.spec.name} spare gen {self._life.generation}")
        if self._life.spec.preload:
            rehearse(self._life.spec.concurrency)

    def _become(self, orders: Message) -> int:
        """Be a spare no more, but a worker."""
        upper, board, *listeners = orders.fds
        own = open_listeners(orders.body["listen"], listeners)
        belongings = worker.Belongings(channel.from_fd(upper), board, {**self._life.listeners, **own})
        identity = worker.Identity(self._life.generation, orders.body["slot"], orders.body["id"])
        try:
            belongings.channel.send({"type": "spawned"})
        except ChannelClosed:
            return 1  # the launcher has given it up
        return worker.live(worker.Birth(self._life.spec, identity, belongings, self._load))

    def _warn_of_threads(self) -> None:
        tasks = len(os.listdir("/proc/self/task"))
        if tasks == 1:
            return
        names = ", ".join(threadgroup.strays(self._life.spec.concurrency)) or f"{tasks - 1} without a name in Python"
        text = (
            "importing started threads (%s): no worker will have them, and a lock that one of them holds when a worker "
            "is forked stays locked there: set preload: false"
        )
        _log.warning(text, names)


def open_listeners(addresses: Sequence[str], fds: Sequence[int]) -> dict[str, socket.socket]:
    """Make sockets of descriptors that came with these addresses, in their order."""
    return {address: _open(fd) for address, fd in zip(addresses, fds, strict=True)}


def _open(fd: int) -> socket.socket:
    # eventlet's socket does not ask the kernel of which family it is, and takes itself for one of the internet.
    plain = _socket.socket(fileno=fd)
    return socket.socket(plain.family, plain.type, plain.proto, plain.detach())
