"""Where incarnations begin and end: zygotes and workers are started, heard, signalled and reaped here."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from forkd import channel, interpreter, process, scoreboard
from forkd.core.commands import STACKS, Spawn
from forkd.core.events import Exited, Failed, Ready, Seen, Started
from forkd.errors import ChannelClosed, ForkdError, ProtocolError
from forkd.kernel import children, hearing
from forkd.kernel.guards import Guards
from forkd.kernel.listeners import Listeners
from forkd.kernel.offspring import Family, Offspring, Worker, Zygote
from forkd.kernel.oom import OutOfMemory
from forkd.kernel.private import PrivateListeners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from forkd.channel import Channel
    from forkd.core.commands import Look, Retire, Signal, StartZygote
    from forkd.core.events import Event
    from forkd.core.spec import ServiceSpec
    from forkd.kernel.selector import Selector
    from forkd.scoreboard import Counters

    BecomeZygote = Callable[[ServiceSpec, Channel, str], int]

_SPARE_ROWS = 16  # of a scoreboard: the main thread, timers, loops
_LEAST_ROWS = 126  # as many as fit a page
# Descriptors that additional workers leave: to zygotes, to a service's first worker and those that replace others, to
# the reader of the configuration, to those who ask for the status.
_RESERVE = 24


class Nursery:
    """All zygotes and workers of the launcher, with the listeners that they share.

    A worker's process is believed to be its own only by the kernel's word, and a worker whose
    channel is closed before it has announced itself never becomes one. `private` are the listeners of single workers.
    """

    def __init__(
        self, runtime_dir: str, selector: Selector, reset: Callable[[], None], become_zygote: BecomeZygote
    ) -> None:
        """`reset` is what a forked child does first, `become_zygote` what a zygote does then."""
        self._selector = selector
        self._reset = reset
        self._become_zygote = become_zygote
        self._listeners = Listeners(runtime_dir)
        self.private = PrivateListeners(runtime_dir)
        self._guards = Guards(reset)
        self._family = Family()
        self._out_of_memory = OutOfMemory()

    def move(self, runtime_dir: str) -> None:
        """Use another runtime directory for what is opened and started from now on."""
        self._listeners.runtime_dir = runtime_dir
        self.private.move(runtime_dir)

    def begin(self, command: StartZygote | Spawn) -> list[Event]:
        """Start a zygote, or have one fork a worker; Failed and Exited when it cannot even be tried."""
        try:
            return self._spawn(command) if isinstance(command, Spawn) else self._start_zygote(command)
        except (OSError, ForkdError) as error:
            one = self._family.get(command.id)
            if one is not None:
                self._forget(one)
            return [Failed(command.id, _reason(error)), Exited(command.id, None, None)]

    def signal(self, command: Signal) -> list[Event]:
        """Signal a process, if it still is one."""
        one = self._family.get(command.id)
        if one is None:
            return []
        if command.signal == signal.SIGKILL:
            return self._kill(one)
        if one.pid is not None:
            if isinstance(one, Worker) and command.signal == STACKS:
                one.owed += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, command.signal)
        return []

    def look(self, command: Look) -> list[Event]:
        """See on a worker's scoreboard when it gave its last sign of life, and stacks that it could not send."""
        one = self._family.get(command.id)
        if not isinstance(one, Worker):
            return []
        # Not even the first page of the tail is read where nobody has asked for stacks.
        return [Seen(one.id, one.board.heartbeat(), one.board.take_dumped() if one.owed else "")]

    def retire(self, command: Retire) -> list[Event]:
        """Let the generation's zygote end after its last worker, and close the listeners that nobody else needs."""
        for zygote in self._family.zygotes(command.service):
            if zygote.generation == command.generation:
                try:
                    zygote.channel.send({"type": "retire"})
                except (ChannelClosed, ProtocolError):
                    self._deafen(zygote)  # it is full of orders: let it take this for the launcher's death
                    zygote.channel.close()
        self._listeners.release(command.service, command.generation)
        return []

    def reap(self, on_stranger: Callable[[int, int], Iterable[Event]]) -> list[Event]:
        """Collect every dead child; of one that is no incarnation, `on_stranger` gets the pid and the exit code.

        That is negative when a signal ended it.
        """
        events: list[Event] = []
        while (pid := children.next_dead()) is not None:
            if self._family.of_pid(pid) is None:
                # It may have announced itself and died before anyone listened.
                for worker in self._family.unannounced():
                    events += self._hear(worker, hearing.LIFE_LIMIT)
            one = self._family.of_pid(pid)
            if one is None:
                self._guards.ended(pid)
                end = children.collect(pid)
                events += on_stranger(pid, -(end.signal or 0) if end.code is None else end.code)
                continue
            events += self._hear(one, hearing.LIFE_LIMIT)
            # Not reaped yet, so the number of its group cannot be anybody else's.
            children.kill_group(pid)
            self._deafen(one)
            end = children.collect(pid)
            if isinstance(one, Zygote) and end.code is not None and one.is_foreign():
                events.append(Failed(one.id, f"python: {interpreter.remedy(one.spec.python)}"))
            oom = end.signal == signal.SIGKILL and not one.killed and self._out_of_memory.explains()
            stacks = one.board.take_dumped() if isinstance(one, Worker) else ""
            events.append(Exited(one.id, *end, oom, stacks))
            self._forget(one)
        return events

    def counters(self, id: int) -> Counters | None:
        """Read the scoreboard of a worker; None for what is none, or lives no more."""
        one = self._family.get(id)
        return one.counters() if isinstance(one, Worker) else None

    def totals(self, service: str) -> Counters:
        """Add up what a service's workers have done since the launcher's start."""
        return self._family.totals(service)

    def let_go(self) -> None:
        """In a fork of the launcher: close its ends of the channels, and its listeners, whose files stay."""
        for one in self._family:
            one.close()
        self._listeners.let_go()

    def close(self) -> None:
        """Close every channel, at which zygotes end, and every listener."""
        for one in self._family:
            self._selector.unwatch(one.channel)
            one.close()
        self._listeners.close()
        self.private.close()

    def _start_zygote(self, command: StartZygote) -> list[Event]:
        spec = command.spec
        upper, lower = channel.pair()
        with contextlib.closing(lower):
            zygote = Zygote(command.id, spec, command.generation, upper)
            self._family.add(zygote)
            listeners = self._listeners.acquire(spec, command.generation)
            # The channel keeps it until the zygote reads it: what can fail, fails before there is a process.
            upper.send(hearing.greeting(zygote, os.getpid(), listeners), [one.sock.fileno() for one in listeners])
            pid = process.fork(partial(self._become_zygote, spec, lower, self._listeners.runtime_dir), self._reset)
        self._family.announce(zygote, pid)
        self._attend(spec.name)
        self._selector.watch(upper, partial(self._hear, zygote, hearing.TURN_LIMIT))
        return [Started(zygote.id, pid)]

    def _spawn(self, command: Spawn) -> list[Event]:
        zygote = self._family.get(command.zygote)
        if not isinstance(zygote, Zygote) or zygote.deaf:
            msg = "its zygote is gone"
            raise ForkdError(msg)
        spec = zygote.spec
        rows = max(_LEAST_ROWS, spec.threads + _SPARE_ROWS if spec.concurrency == "threads" else 0)
        with scoreboard.created(rows) as board:
            reader = scoreboard.Reader(board)
            upper, lower = channel.pair()
            with contextlib.closing(lower):
                worker = Worker(zygote, command.id, command.slot, upper, reader)
                self._family.add(worker)
                if lower.fileno() >= _most() - _RESERVE and self._family.is_additional(worker):
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                listeners = self._listeners.acquire_slot(spec, zygote.generation, command.slot)
                with self.private.opened(spec, worker.id) as private:
                    own = {**{one.address: one.sock for one in listeners}, **private}
                    fds = [lower.fileno(), board, *(sock.fileno() for sock in own.values())]
                    zygote.channel.send(hearing.order(worker, list(own)), fds)
        self._selector.watch(upper, partial(self._hear, worker, hearing.TURN_LIMIT))
        return []

    def _hear(self, one: Offspring, most: int) -> list[Event]:
        """Read what an incarnation says; one that breaks the protocol is killed, and nobody else notices."""
        events: list[Event] = []
        try:
            for _ in range(0 if one.deaf else most):
                message = one.channel.receive()
                if message is None:
                    break
                event = hearing.understand(one, message)
                if event is None:
                    continue
                if isinstance(event, Started):
                    self._announce(one, event.pid)
                elif isinstance(event, Ready) and isinstance(one, Zygote):
                    self._attend(one.spec.name)
                events.append(event)
        except ChannelClosed:
            events += self._deafen(one)
        except ProtocolError as error:
            events.append(Failed(one.id, f"killed, since it broke the protocol of its channel: {error}"))
            events += self._kill(one) or self._deafen(one)
        return events

    def _announce(self, one: Offspring, pid: int) -> None:
        """Believe that it is this process; raise ProtocolError when it is not a child, or somebody else's."""
        if self._family.of_pid(pid) is not None or not children.is_child(pid):
            msg = f"process {pid} cannot be its own"
            raise ProtocolError(msg)
        self._family.announce(one, pid)
        if isinstance(one, Worker) and not self._family.attended(one):
            self._attend(one.spec.name)

    def _deafen(self, one: Offspring) -> list[Event]:
        """Stop listening to it; a worker that was never announced has thereby ended."""
        if one.deaf:
            return []
        self._selector.unwatch(one.channel)
        one.deaf = True
        if isinstance(one, Zygote):
            self._attend(one.spec.name)
        if one.pid is not None:
            return []
        self._forget(one)
        return [Exited(one.id, None, None)]

    def _forget(self, one: Offspring) -> None:
        self._family.remove(one)
        self.private.forget(one.id)

    def _kill(self, one: Offspring) -> list[Event]:
        if one.pid is None:
            return self._deafen(one)
        one.killed = True
        children.kill_group(one.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)  # in case it has left its group
        return []

    def _attend(self, service: str) -> None:
        """Have the workers of zygotes that are gone looked after by the newest that is there, or else by a guard.

        A zygote that imports may have started what outlives it, and is looked after by the guard too.
        """
        zygotes = [zygote for zygote in self._family.zygotes(service) if zygote.imported]
        wards = self._family.unattended(service)
        for first in range(0, len(wards) if zygotes else 0, channel.FDS_LIMIT):
            if not _hand_over(zygotes[-1], wards[first : first + channel.FDS_LIMIT]):
                break  # whatever is short now
        if left := [*self._family.unattended(service), *self._family.importing(service)]:
            self._guards.post(service, left)
        else:
            self._guards.dismiss(service)


def _hand_over(zygote: Zygote, wards: Sequence[tuple[Worker, int]]) -> bool:
    """Tell a zygote of workers to look after, each by its pid and a pidfd; tell whether it was told."""
    pidfds: list[int] = []
    try:
        for _, pid in wards:
            pidfds.append(os.pidfd_open(pid))
        zygote.channel.send({"type": "adopt", "pids": [pid for _, pid in wards]}, pidfds)
    except (OSError, ChannelClosed, ProtocolError):
        return False
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    for worker, _ in wards:
        worker.zygote = zygote.id
    return True


def _most() -> int:
    return os.sysconf("SC_OPEN_MAX")


def _reason(error: OSError | ForkdError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"too many open files: the launcher may have {_most()} (ulimit -Hn)"
    return str(error)
