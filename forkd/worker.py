"""The life of one worker, from its fork to its last words; the process that forked it takes its exit code."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from forkd import channel, logs, process, threadgroup
from forkd.channel import Channel
from forkd.core.spec import ServiceSpec
from forkd.errors import ChannelClosed, ForkdError, ProtocolError
from forkd.service import Inheritance, Service, WorkerIdentity
from forkd.signals import Signals
from forkd.stacks import Stacks
from forkd.vitals import Vitals

if TYPE_CHECKING:
    from types import TracebackType

    from forkd.threadgroup import Event

_NOT_USERS = ("<frozen ", os.path.dirname(__file__), os.path.dirname(importlib.__file__))

_log = logging.getLogger("forkd.worker")


class Identity(NamedTuple):
    """Who a worker is, within its service."""

    generation: int
    slot: int
    id: int


class Belongings(NamedTuple):
    """What is a worker's own: its ends of channel and scoreboard, and the listeners by address."""

    channel: Channel
    board: int
    listeners: dict[str, socket.socket]


class Birth(NamedTuple):
    """What a worker is born with. `load` imports the service's code, unless the zygote has, and returns its maker."""

    spec: ServiceSpec
    identity: Identity
    belongings: Belongings
    load: Callable[[], Callable[[], Service]]


def live(birth: Birth) -> int:
    """Be the worker: start the service, serve until a signal says otherwise, and give the exit code."""
    to = birth.belongings.channel
    try:
        stacks = _prepare(birth)
        signals = Signals()
        _let_forks_go(birth, signals, stacks)
        build = birth.load()
        logs.to_stderr(f"{birth.spec.name}/{birth.identity.slot}")
        vitals = Vitals(birth.belongings.board, birth.spec, to)
        service = _start(birth, build, signals, vitals)
        to.send({"type": "ready", "counters": service.board.names()})
        _serve(service, signals, vitals, to)
    except ChannelClosed:
        return 1  # nobody wants this worker any more
    except BaseException as error:  # noqa: BLE001 -- SystemExit in a service's start is a failure like any other
        tell_failure(to, error)
        return 1
    else:
        return 0
    finally:
        _finish()


def _prepare(birth: Birth) -> Stacks:
    """Let go of what is the zygote's; show stacks from now on as a worker does."""
    process.set_title(f"forkd: {birth.spec.name}/{birth.identity.slot} gen {birth.identity.generation}")
    # What was registered before the fork is the zygote's to run: its other workers still use what that may clean up.
    atexit._clear()  # noqa: SLF001 -- the module has no public name for it
    threadgroup.after_fork(birth.spec.concurrency)
    stacks = Stacks(birth.belongings.board, birth.belongings.channel, birth.spec.concurrency)
    stacks.install()
    gc.enable()
    return stacks


def _let_forks_go(birth: Birth, signals: Signals, stacks: Stacks) -> None:
    """Have a process that the service's code forks be no worker: TERM ends it, and it neither says nor serves anything.

    Signals are held back meanwhile, as in `process.fork`.
    """
    here = threading.local()

    def hold_back() -> None:
        here.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, here.blocked)

    def let_go() -> None:
        try:
            signals.reset()
            stacks.let_go()
            birth.belongings.channel.close()
            threadgroup.after_fork(birth.spec.concurrency)
        finally:
            go_on()

    os.register_at_fork(before=hold_back, after_in_parent=go_on, after_in_child=let_go)


def _start(birth: Birth, build: Callable[[], Service], signals: Signals, vitals: Vitals) -> Service:
    """Make the service and start it; when this returns it serves."""
    service = build()
    identity = WorkerIdentity(os.uname().nodename, birth.spec.name, birth.identity.slot, birth.identity.id)
    to_inherit = Inheritance(birth.belongings.listeners, vitals.board, identity, birth.spec.stop_timeout, vitals.ask)
    service.adopt(to_inherit)
    # Until here a signal ends the worker at once, for it serves nobody. From here on it is heeded when all is started.
    signals.install((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP))
    signals.overhear(signal.SIGUSR1)
    service.start()
    return service


def tell_failure(to: Channel, error: BaseException) -> None:
    """Send `failed`, as well as it can be done: the receiver may be gone, which is no reason to fail otherwise."""
    text = ""  # what forkd refuses, it explains
    if not isinstance(error, ForkdError):
        text = "".join(traceback.format_exception(type(error), error, _users_part(error)))
    with contextlib.suppress(ChannelClosed, ProtocolError):
        to.send(channel.failed(describe(error), text))


def describe(error: BaseException) -> str:
    """Say what was raised in one line, such as `KeyError: 'DSN'`."""
    if isinstance(error, ForkdError):
        return str(error)
    return traceback.format_exception_only(type(error), error)[-1].strip()


def _serve(service: Service, signals: Signals, vitals: Vitals, to: Channel) -> None:
    """Return when the service has stopped, which it may have by now, or a QUIT cuts its drain short."""
    # None of the service's threads, whose stop awaits all of them. The main one is kept free for what comes next.
    own = threadgroup.create(service.concurrency)
    own.add_timer(vitals.interval, vitals.beat)
    ended = own.event()
    own.add_loop(_await_end, service, ended, signals)
    stopping = False
    while not ended.is_set():
        own.wait_readable(signals.fileno())
        for number in signals.take():
            if number == signal.SIGQUIT and stopping:
                return
            if number == signal.SIGHUP:
                own.add_loop(_try, service.reset)
            elif number == signal.SIGUSR1:
                own.add_loop(_try, service.server.reopen)
            elif not stopping:  # a second TERM, or a terminal's INT beside it, changes nothing
                stopping = True
                own.add_loop(_stop, service, number != signal.SIGQUIT, to)


def _await_end(service: Service, ended: Event, signals: Signals) -> None:
    try:
        service.wait()
    finally:
        ended.set()
        signals.wake()


def _stop(service: Service, graceful: bool, to: Channel) -> None:
    if graceful:
        with contextlib.suppress(ChannelClosed, ProtocolError):  # the launcher may be what has ended
            to.send({"type": "draining"})
    service.stop(graceful=graceful)


def _try(change: Callable[[], None]) -> None:
    try:
        change()
    except Exception:  # noqa: BLE001 -- whatever the service's code raises
        _log.exception("%s failed; the service goes on as it was", change.__name__)


def _users_part(error: BaseException) -> TracebackType | None:
    """Leave out how forkd and the import system came to the service's code."""
    left = error.__traceback__
    while left is not None and left.tb_frame.f_code.co_filename.startswith(_NOT_USERS):
        left = left.tb_next
    return left


def _finish() -> None:
    """Run what the worker has registered for its exit, since `os._exit` does not, and let nothing written be lost."""
    atexit._run_exitfuncs()  # noqa: SLF001 -- as above
    logging.shutdown()
    process.flush_output()
