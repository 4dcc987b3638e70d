"""What a user's script holds: launchers, responsible for any number of services; it decides nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from forkd import process, threadgroup
from forkd.errors import ForkdError
from forkd.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from forkd.service import Service
    from forkd.threadgroup import ThreadGroup

_log = logging.getLogger("forkd.launcher")

_TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


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
    of `launch_service`. Afterwards signals are handled as they were before. Used from the process's main thread,
    where Python handles signals; `stop` from any thread.
    """

    def __init__(self) -> None:
        self._services: list[Service] = []
        self._here: _Here | None = None
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
        except _Terminated:
            self._abandon(here)
            sys.exit(0)
        except BaseException:
            self._abandon(here)
            raise
        self._services.append(service)
        if self._stopping:  # by another thread, meanwhile
            self._ask_to_stop(here, graceful=True)

    def stop(self) -> None:
        """Ask every service to stop gracefully and return at once; `wait` returns when they have."""
        self._stopping = True
        if self._here is not None:
            self._ask_to_stop(self._here, graceful=True)

    def wait(self) -> None:
        """Handle signals and return when every service has stopped, however that came about."""
        here = self._here
        if here is None:
            return
        try:
            here.group.add_loop(self._await_services, here)
            while not here.ended.is_set():
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
        if number == signal.SIGHUP:
            for service in self._services:
                here.group.try_thread(service.reset)  # None when many resets hang: this thread must not
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
        self._stopping = False
        self._services.clear()


class ProcessLauncher(Launcher):
    """Runs each service in worker processes, which it replaces when they die; used from the main thread of a script.

    `launch_service` forks, so the script must have no other thread by then, nor an eventlet hub: make those later.
    While `wait` runs, TERM, INT, QUIT and HUP are passed on; otherwise the script's signals, and its own children,
    are its own. When the script ends, however it does, its services stop.
    """

    def __init__(self) -> None:
        self._launchers: dict[int, int] = {}  # pid: pidfd

    def launch_service(self, service: Service, workers: int = 1) -> None:
        """Start `service` in so many workers, and return when all are ready.

        Raise `ForkdError` with the reason when the first start fails, and when the script has threads, or was
        patched by eventlet.
        """
        if threadgroup.is_patched():
            raise ForkdError("eventlet has patched this process: launch services before that; workers do it themselves")
        from forkd import embedded  # lazy: a ServiceLauncher needs neither kernel nor zygote

        if len(os.listdir("/proc/self/task")) > 1:
            raise ForkdError("a process that has threads cannot be forked: launch services before threads are made")
        heard, verdict = os.pipe2(os.O_CLOEXEC)
        launched = embedded.Launched(service, workers, os.getpid(), verdict)
        try:
            pid = process.fork(partial(embedded.supervise, launched), _let_go_of_signals)
            os.close(verdict)
            self._launchers[pid] = os.pidfd_open(pid)
            with os.fdopen(heard, "rb") as file:
                error = file.read().decode()
        except BaseException:
            self.stop()
            raise
        if error:
            self._reap(pid)
            raise ForkdError(f"service {service.name}: {error}")

    def stop(self) -> None:
        """Ask every service to stop gracefully and return at once; `wait` returns when they have."""
        self._signal(signal.SIGTERM)

    def wait(self) -> None:
        """Pass signals on and return when every service has stopped."""
        signals = _BorrowedSignals()
        signals.install(_TAKEN)
        try:
            while self._launchers:
                self._reap_ended(signals)
                for number in signals.take():
                    self._signal(number)
        finally:
            signals.give_back()

    def _reap_ended(self, signals: Signals) -> None:
        """Sleep until a launcher has ended or a signal has come."""
        poller = select.poll()
        for fd in (signals.fileno(), *self._launchers.values()):
            poller.register(fd, select.POLLIN)
        readable = {fd for fd, _ in poller.poll()}
        for pid in [pid for pid, pidfd in self._launchers.items() if pidfd in readable]:
            self._reap(pid)

    def _signal(self, number: int) -> None:
        for pidfd in self._launchers.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)

    def _reap(self, pid: int) -> None:
        os.close(self._launchers.pop(pid))
        os.waitpid(pid, 0)


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
        self.signals = _BorrowedSignals()


class _BorrowedSignals(Signals):
    """The process's signals, with whom to give them back to."""

    __slots__ = ("_before", "_wakeup_before")

    def __init__(self) -> None:
        super().__init__()
        self._before = {number: signal.getsignal(number) for number in _TAKEN}
        self._wakeup_before = signal.set_wakeup_fd(-1)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let INT and TERM raise in the block, whose code may hang; take all signals when it is done."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _terminate)
        yield
        self.install(_TAKEN)

    def give_back(self) -> None:
        """Let every signal be handled as before."""
        self.reset()
        for number, handler in self._before.items():
            if handler is not None:  # None: C code had installed it
                signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)


class _Terminated(KeyboardInterrupt):
    """TERM came while a service started: of its parent's kind, for that is what no thread and no hub holds up."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated
