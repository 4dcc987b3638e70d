"""The launcher of a script: a process of its own that supervises one live Service object in forked zygotes.

It is not the script itself: a subreaper could not tell its orphans from the script's own children,
whose exit statuses are nobody else's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from forkd import process, rpc, wsgi
from forkd.config.runtime_dir import present_runtime_dir
from forkd.control import words
from forkd.core import loop
from forkd.core.commands import ReadConfig
from forkd.core.events import ConfigRead, Stop
from forkd.core.spec import Config, ServiceSpec
from forkd.core.supervisor import Supervisor
from forkd.kernel import Kernel
from forkd.log import Log
from forkd.service import Service
from forkd.zygote.life import live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.channel import Channel
    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.state import News

RUNNING = "running"
"""What the script is told of a service whose workers are ready; else why they are not, or, by one killed, nothing."""


class Launched(NamedTuple):
    """A service, how many workers run it, the script's pid, and the pipe on which it waits for the first verdict."""

    service: Service
    workers: int
    script: int
    verdict: int


def supervise(launched: Launched) -> int:
    """Be the launcher of a service in this fork of the script; give the exit code."""
    process.set_title(f"forkd: launcher [{launched.service.name}]")
    os.setpgid(0, 0)  # what a terminal sends to its foreground group comes to the script, which passes it on
    process.die_with_parent(signal.SIGTERM)
    if os.getppid() != launched.script:
        return 1
    launcher = _Launcher(launched)
    loop.run(launcher.supervisor, launcher, launcher.report)
    launcher.sweep()
    launcher.close()
    return 1 if launcher.failed else 0


def _spec(service: Service, workers: int) -> ServiceSpec:
    """Return the spec of a live service. It is reset in place by HUP: its code cannot be imported anew by name."""
    server = service.server
    spec = ServiceSpec(
        service.name,
        type(server).__qualname__,
        workers=workers,
        concurrency=service.concurrency,
        threads=service.threads,
        stop_timeout=service.stop_timeout,
        reload="signal",
    )
    if isinstance(server, wsgi.Server):
        options = server.options
        return spec._replace(bind=server.bind, backlog=options.backlog, reuse_port=options.reuse_port)
    if isinstance(server, rpc.Server):
        return spec._replace(topic=server.topic or None, allow=tuple(server.allow))
    return spec  # what `bind` or `topic` may be to a server of the script's own is its affair


class _Launcher:
    """To the core's loop it is the kernel. A first start that fails ends it, and the script is told why."""

    def __init__(self, launched: Launched) -> None:
        runtime_dir = present_runtime_dir()
        os.makedirs(runtime_dir, 0o700, exist_ok=True)
        os.environ["FORKD_RUNTIME_DIR"] = runtime_dir
        spec = _spec(launched.service, launched.workers)
        self._config = Config(runtime_dir, services=(spec,))
        self._verdict: int | None = launched.verdict
        self._service = launched.service
        self._log = Log(self._config.log_level)
        self._chronicle = words.Chronicle()
        self._kernel = Kernel("", runtime_dir, self._become_zygote)
        self.supervisor = Supervisor(self._config, self._kernel.now())
        self.failed = False

    def now(self) -> float:
        return self._kernel.now()

    def perform(self, command: Command) -> list[Event]:
        if isinstance(command, ReadConfig):
            return [ConfigRead(self._config)]
        return self._kernel.perform(command)

    def wait(self, deadline: float | None) -> list[Event]:
        return self._kernel.wait(deadline)

    def report(self, news: Sequence[News]) -> None:
        for item in news:
            said = self._chronicle.say(item)
            self._log.write(said.level, said.text, said.origin)
        if self._verdict is not None:
            self._tell_verdict()

    def sweep(self) -> None:
        self._kernel.sweep()

    def close(self) -> None:
        self._kernel.close()

    def _tell_verdict(self) -> None:
        """Say on the pipe that the service runs, or why it does not, once one of both is known."""
        (service,) = self.supervisor.snapshot(self.now())["services"] or [{"state": "stopped", "error": None}]
        if service["error"] is None and service["state"] == "starting":
            return
        assert self._verdict is not None  # noqa: S101 -- who asks has looked
        with contextlib.suppress(BrokenPipeError):  # the script has been told to go on by a signal
            os.write(self._verdict, (service["error"] or RUNNING).encode()[: 64 * 1024])
        os.close(self._verdict)
        self._verdict = None
        if service["error"] is not None:
            self.failed = True
            self.supervisor.observe(Stop(quick=True), self.now())

    def _become_zygote(self, _spec: ServiceSpec, lower: Channel, _runtime_dir: str) -> int:
        os.setsid()
        self._kernel.let_go()
        if self._verdict is not None:
            os.close(self._verdict)
        # What the script has registered is its own to run, as multiprocessing's end of its children is.
        atexit._clear()  # noqa: SLF001 -- the module has no public name for it
        return live(lower, lambda *_: lambda: self._service)  # as it is: each worker has its own copy by the fork
