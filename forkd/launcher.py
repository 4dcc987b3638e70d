"""What a user's script holds: launchers, responsible for any number of services; it decides nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from forkd import process, threadgroup
from forkd.borrowed_signals import Terminated, waker
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from forkd.borrowed_signals import Waker
    from forkd.service import Service
    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.launcher")

# Whoever signals must find no number that is somebody else's by now. Reentrant: a signal handler may stop too. Of the
# module: of an object that only the script's frames hold, eventlet says in each worker that it could not be greened.
_signalling = threading.RLock()


class Launcher(ABC):
    """Runs services, any number of them, until they have stopped."""

    @abstractmethod
    def launch_service(self, service: Service, workers: int = 1) -> None:
        """Start `service` in so many workers; what its start raises is raised here."""

    @abstractmethod
    def stop(self) -> None:
        """Ask every service to stop gracefully and return at once; `wait` returns when they have."""

    @abstractmethod
    def wait(self) -> None:
        """Return when every service has stopped."""


class ServiceLauncher(Launcher):
    """Runs services in this process, all of one concurrency; TERM, INT, QUIT and HUP are its own until `wait` returns.

    TERM and INT stop the services gracefully, a second one at once, as QUIT does; HUP calls each `service.reset()`.
    While a service starts, TERM and INT end the start instead: they raise `SystemExit` and `KeyboardInterrupt` out
    of `launch_service`. Afterwards signals are handled as they were before. Used from another than the process's main
    thread, where Python handles no signals, it leaves them alone. Any thread may call `stop`.
    """

    def __init__(self) -> None:
        self._services: list[Service] = []
        self._here: _Here | None = None
        self._told_to_stop = False
        self._stopping = False

    def launch_service(self, service: Service, workers: int = 1) -> None:
        """Start `service` in this process; `workers` can only be 1.

        Prepares the process for the service's concurrency. `eventlet` patches the standard library: better is to
        call `forkd.threadgroup.prepare("eventlet")` before the application is imported. Raise `ForkdError` for more
        than one worker and for services of both concurrencies; what the start raises stops the others and is raised.
        """
        if workers != 1:
            raise ForkdError(f"a ServiceLauncher runs one worker per service, not {workers}: use a ProcessLauncher")
        here = self._make(service.concurrency)
        try:
            with here.signals.starting():
                service.start()
        except Terminated:
            self._abandon(here)
            sys.exit(0)
        except BaseException:
            self._abandon(here)
            raise
        self._services.append(service)

    def stop(self) -> None:
        """Ask every service to stop gracefully and return at once; `wait` does it, and returns when they have."""
        # Not done here: this may be a thread with an eventlet hub of its own, in which nothing of a service can run.
        self._told_to_stop = True
        here = self._here
        if here is not None:
            here.signals.wake()

    def wait(self) -> None:
        """Handle signals and return when every service has stopped, however that came about."""
        here = self._here
        if here is None:
            return
        try:
            here.group.add_loop(self._await_services, here)
            while not here.ended.is_set():
                if self._told_to_stop and not self._stopping:
                    self._ask_to_stop(here, graceful=True)
                here.group.wait_readable(here.signals.fileno())
                for number in here.signals.take():
                    self._heed(here, number)
        except BaseException:  # nobody handles signals any more: a debugger's or a user's exception ends the services
            self._abandon(here)
            raise
        self._close(here)

    def _make(self, concurrency: str) -> _Here:
        if self._here is None:
            threadgroup.prepare(concurrency)
            self._here = _Here(threadgroup.create(concurrency))
        mine = self._here.group.concurrency
        if concurrency != mine:
            raise ForkdError(
                f"services of concurrency {mine!r} and {concurrency!r} cannot share a process: use a ProcessLauncher"
            )
        return self._here

    def _heed(self, here: _Here, number: int) -> None:
        if number in {signal.SIGHUP, signal.SIGUSR1}:
            for service in self._services:
                # None when many of them hang: this thread must not.
                here.group.try_thread(service.reset if number == signal.SIGHUP else service.server.reopen)
        else:
            self._ask_to_stop(here, graceful=number != signal.SIGQUIT and not self._stopping)

    def _ask_to_stop(self, here: _Here, *, graceful: bool) -> None:
        # In threads: a stop takes its time, and the next signal may be the one to cut it short.
        self._stopping = True
        for service in self._services:
            here.group.add_loop(service.stop, graceful)

    def _await_services(self, here: _Here) -> None:
        for service in self._services:
            try:
                service.wait()
            except Exception:  # noqa: BLE001 -- the others are waited for all the same
                _log.exception("service %s: its server failed to wait", service.name)
        here.ended.set()
        here.signals.wake()

    def _abandon(self, here: _Here) -> None:
        for service in self._services:
            service.stop(graceful=False)
        self._close(here)

    def _close(self, here: _Here) -> None:
        here.group.stop()
        here.signals.give_back()
        self._here = None
        self._told_to_stop = self._stopping = False
        self._services.clear()


class ProcessLauncher(Launcher):
    """Runs each service in worker processes, which it replaces when they die.

    `launch_service` forks, so the script must have no other thread by then, nor an eventlet hub: make those later.
    While `wait` runs in the main thread, TERM, INT, QUIT and HUP are passed on; otherwise the script's signals, and
    its own children, are its own. When the script ends, however it does, its services stop. One thread waits, any may
    call `stop`.
    """

    def __init__(self) -> None:
        self._launchers: set[int] = set()  # a pidfd of each

    def launch_service(self, service: Service, workers: int = 1) -> None:
        """Start `service` in so many workers, and return when all are ready.

        Raise `ForkdError` with the reason when the first start fails, and when the script has threads, or was
        patched by eventlet.
        """
        if workers < 1:
            raise ForkdError(f"workers: expected at least 1, got {workers!r}")
        if threadgroup.is_patched():
            raise ForkdError("eventlet has patched this process: launch services before that; workers do it themselves")
        from forkd import embedded  # lazy: a ServiceLauncher needs neither kernel nor zygote

        if len(os.listdir("/proc/self/task")) > 1:
            raise ForkdError("a process that has threads cannot be forked: launch services before threads are made")
        process.flush_output()  # what is left in the buffers would be written by every process again
        heard, verdict = os.pipe2(os.O_CLOEXEC)
        launched = embedded.Launched(service, workers, os.getpid(), verdict)
        try:
            pidfd = os.pidfd_open(process.fork(partial(embedded.supervise, launched), _let_go_of_signals))
            self._launchers.add(pidfd)
            os.close(verdict)
            with os.fdopen(heard, "rb") as file:
                said = file.read().decode()
        except BaseException:
            self.stop()
            raise
        if said != embedded.RUNNING:
            self._reap(pidfd)
            raise ForkdError(f"service {service.name}: {said or 'its launcher was killed'}")

    def stop(self) -> None:
        """Ask every service to stop gracefully and return at once; `wait` returns when they have."""
        self._signal(signal.SIGTERM)

    def wait(self) -> None:
        """Pass signals on and return when every service has stopped."""
        signals = waker()
        signals.borrow()
        try:
            while self._launchers:
                self._reap_ended(signals)
                for number in signals.take():
                    self._signal(number)
        finally:
            signals.give_back()

    def _reap_ended(self, signals: Waker) -> None:
        """Sleep until a launcher has ended or a signal has come."""
        poller = select.poll()
        for fd in (signals.fileno(), *self._launchers):
            poller.register(fd, select.POLLIN)
        for pidfd in self._launchers & {fd for fd, _ in poller.poll()}:
            self._reap(pidfd)

    def _signal(self, number: int) -> None:
        with _signalling:
            for pidfd in self._launchers:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)

    def _reap(self, pidfd: int) -> None:
        with contextlib.suppress(ChildProcessError):  # the script ignores SIGCHLD, or its handler reaps whoever is dead
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        with _signalling:
            self._launchers.remove(pidfd)
            os.close(pidfd)


def _let_go_of_signals() -> None:
    """In a fork of the script: none of its handlers, and not its wakeup descriptor."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


class _Here:
    """What a ServiceLauncher holds of its process: signals, and threads that outlive the services' own."""

    def __init__(self, group: ThreadGroup) -> None:
        self.group = group
        self.ended = group.event()
        self.signals = waker()
