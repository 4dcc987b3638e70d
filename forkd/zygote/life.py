"""From a channel to a zygote that forks: it takes its spec, loads the service's code and says how that went."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import forkd
from forkd import assembly, logs, process, rehearsal, threadgroup, tls_files, worker
from forkd.channel import PROTOCOL
from forkd.config import decode
from forkd.core.commands import DUMP, STACKS
from forkd.errors import ChannelClosed, ProtocolError
from forkd.signals import do_nothing_on
from forkd.undertaker import Undertaker
from forkd.zygote import Life, Zygote, open_listeners
from forkd.zygote.forking import keep_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from forkd.channel import Channel
    from forkd.core.spec import ServiceSpec
    from forkd.service import Service

    Load = Callable[[ServiceSpec, SSLContext | None], Callable[[], Service]]

_FOR_WORKERS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_HARMLESS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, STACKS, DUMP)
_LAST_MOMENT = 5  # seconds that exit functions of the service's code may take


def live(upper: Channel, load: Load) -> int:
    """Be a zygote, `load` being how it comes by its service; give the exit code."""
    process.dump_stacks_on_abort()
    do_nothing_on(*_FOR_WORKERS, *_HARMLESS)
    try:
        life = _receive_life(upper)
    except ChannelClosed:
        return 1
    except ProtocolError as error:
        worker.tell_failure(upper, error)
        return 1
    undertaker = Undertaker()
    try:
        load_in_worker = _import(life, load)
        upper.send({"type": "imported"})
        Zygote(life, upper, load_in_worker, undertaker).run()
    except BaseException as error:  # noqa: BLE001 -- the code may raise what it likes, SystemExit too
        worker.tell_failure(upper, error)
        if os.getppid() != life.launcher_pid:
            undertaker.finish(life.spec.stop_timeout)
            _bury_own_group()
        return 1
    if os.getppid() != life.launcher_pid:
        _bury_own_group()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_LAST_MOMENT)
    atexit._run_exitfuncs()  # noqa: SLF001 -- os._exit, by which this process leaves, does not
    logging.shutdown()
    return 0


def _bury_own_group() -> None:
    """Without a launcher to do it: have what the code has started at its import killed when this process has ended.

    A process of its own does that, since an exit function may hang, or wait for what is to be killed.
    """
    last = Undertaker()
    last.take_in(os.getpid(), os.pidfd_open(os.getpid()))

    def bury() -> int:
        os.setpgid(0, 0)
        last.finish(_LAST_MOMENT)
        return 0

    process.fork(bury, keep_signals)


def _receive_life(upper: Channel) -> Life:
    """Wait for what the launcher says first."""
    upper.wait()
    message = upper.receive()
    if message is None:
        raise ChannelClosed
    body = message.body
    spec = _understand(body)
    listeners = open_listeners(body["listen"], message.fds)
    return Life(spec, body["generation"], body["launcher_pid"], listeners)


def _understand(body: dict[str, Any]) -> ServiceSpec:
    """Return the spec in the launcher's first message. Raises ProtocolError when its forkd is too different."""
    with contextlib.suppress(ProtocolError):
        if body.get("protocol") == PROTOCOL:
            return decode.spec_from(body["spec"])
    mine, theirs = f"forkd {forkd.__version__} of {sys.executable}", body.get("version")
    raise ProtocolError(
        f"python: {mine} does not understand the launcher, which is forkd {theirs}: "
        f"restart that after an upgrade, or {sys.executable} -m pip install forkd=={theirs}"
    )


def _import(life: Life, load: Load) -> Callable[[], Callable[[], Service]]:
    """Import the service's code, unless its workers are to do that; return what each of them calls for it.

    It may never return, nor heed a signal: if the launcher dies meanwhile, the kernel kills this process.
    """
    process.die_with_parent(signal.SIGKILL)
    if os.getppid() != life.launcher_pid:
        raise ChannelClosed
    spec = life.spec
    process.set_title(f"forkd: {spec.name} zygote gen {life.generation}")
    threadgroup.prepare(spec.concurrency)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    load_here = partial(load, spec, assembly.tls_of(spec, tls_files.take_over))
    assembly.enter(spec)
    gc.disable()  # for good here: a collection would touch, and so unshare, the pages that workers share
    if spec.preload:
        build = load_here()
        rehearsal.prepare(spec.concurrency)
        logs.to_stderr(f"{spec.name} zygote")
    # Whatever the code has done about them: the zygote reaps its forks itself.
    do_nothing_on(*_FOR_WORKERS)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # From now on the channel's end says it; one that somebody has stopped would not see that.
    process.die_with_parent(signal.SIGCONT)
    return (lambda: build) if spec.preload else load_here
