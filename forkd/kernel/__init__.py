"""The only place of the launcher that forks, kills, waits and selects; it does what it is told and decides nothing."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from forkd import process
from forkd.core.commands import Look, ReadConfig, Retire, Signal, Spawn, StartZygote
from forkd.core.events import Reload, Scale, SignalWorkers, Stop
from forkd.kernel.birth import become_zygote
from forkd.kernel.children import kill_children
from forkd.kernel.nursery import Nursery
from forkd.kernel.reader import ConfigReader
from forkd.kernel.selector import Selector
from forkd.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.kernel.nursery import BecomeZygote
    from forkd.kernel.private import Check
    from forkd.kernel.selector import HasFileno, OnReady
    from forkd.scoreboard import Counters

_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,  # which means nothing yet, but must not end the launcher
)
_LAST_MOMENT = 5.0  # seconds in which what was killed dies, if it ever does


class Kernel:
    """The port between the supervisor and the operating system. One at a time, made before the process's first child.

    It takes the process's signals for itself, every orphan among its descendants, and all descriptors there may be.
    """

    def __init__(self, config_path: str, runtime_dir: str, zygote: BecomeZygote = become_zygote) -> None:
        """`runtime_dir` must exist before the first StartZygote, as `move` says.

        `zygote` is what a fork of this process does to become one; by default it runs a program of its own.
        """
        process.become_subreaper()
        self._signals = Signals()
        self._signals.install(_SIGNALS)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # `forkd start` has held them back for us
        self._reset = partial(_give_back, self._signals, process.raise_descriptor_limit())
        self._selector = Selector()
        self._selector.watch(self._signals, list)
        self._reader = ConfigReader(config_path, self._selector, self._reset)
        self._nursery = Nursery(runtime_dir, self._selector, self._reset, zygote)
        self._told_to_stop = False

    def move(self, runtime_dir: str) -> None:
        """Make RPC sockets below this directory, which services find in FORKD_RUNTIME_DIR."""
        self._nursery.move(runtime_dir)

    def now(self) -> float:
        """Give monotonic seconds."""
        return time.monotonic()

    def perform(self, command: Command) -> list[Event]:
        """Do it at once, without blocking, and give what came of it."""
        match command:
            case ReadConfig():
                return self._reader.start()
            case StartZygote() | Spawn():
                return self._nursery.begin(command)
            case Signal():
                return self._nursery.signal(command)
            case Look():
                return self._nursery.look(command)
            case Retire():
                return self._nursery.retire(command)

    def wait(self, deadline: float | None) -> list[Event]:
        """Sleep until something happens or the deadline (None: none) is there; give everything that has happened.

        What an incarnation has said comes before its Exited.
        """
        timeout = None if deadline is None else max(0.0, deadline - self.now())
        events = self._selector.poll(timeout)
        taken = self._signals.take()
        if signal.SIGCHLD in taken:
            events += self._nursery.reap(self._reader.ended)
        for number in taken:
            events += self._on_signal(number)
        return events

    def watch(self, source: HasFileno | int, on_ready: OnReady, *, write: bool = False) -> None:
        """Have `wait` call `on_ready` when `source` is readable (`write`: or takes more); it returns events."""
        self._selector.watch(source, on_ready, write=write)

    def unwatch(self, source: HasFileno | int) -> None:
        """Call nobody for `source` any more; to be done before it is closed."""
        self._selector.unwatch(source)

    def describe(self, id: int) -> Counters | None:
        """Read a worker's scoreboard; None when there is no such worker."""
        return self._nursery.counters(id)

    def totals(self, service: str) -> Counters:
        """Add up what a service's workers have done since the start, those that are gone too."""
        return self._nursery.totals(service)

    @property
    def checks(self) -> Mapping[int, Check]:
        """How each worker that has a healthcheck is asked, by id; it may not serve yet, or no more."""
        return self._nursery.private.checks

    def let_go(self) -> None:
        """In a fork of this process: close what is the launcher's, and change nothing that it shares with it."""
        self._nursery.let_go()
        self._selector.close()

    def sweep(self) -> None:
        """When nothing is to live any more: kill what is still a child, and its children as they become ours."""
        self._reader.stop()
        deadline = self.now() + _LAST_MOMENT
        while self.now() < deadline and kill_children():
            self.wait(deadline)

    def close(self) -> None:
        """Let go of everything: zygotes end when they notice, listeners are closed and their files removed.

        The process is about to exit: a signal that comes now changes nothing any more, its exit status least of all.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._reader.stop()
        self._nursery.close()
        self._reset()
        self._selector.close()

    def _on_signal(self, number: int) -> list[Event]:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                quick, self._told_to_stop = self._told_to_stop, True
                return [Stop(quick=quick)]
            case signal.SIGQUIT:
                return [Stop(quick=True)]
            case signal.SIGHUP:
                return [Reload()]
            case signal.SIGUSR1:
                return [SignalWorkers(0, None, None, number)]
            case signal.SIGTTIN | signal.SIGTTOU:
                return [Scale(0, None, 1 if number == signal.SIGTTIN else -1, relative=True)]
            case _:
                return []


def _give_back(signals: Signals, descriptors: int) -> None:
    """Be no launcher any more, as its children must first of all: take no signals, and have the limit it had before."""
    signals.reset()
    process.limit_descriptors(descriptors)
