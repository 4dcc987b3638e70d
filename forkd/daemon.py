"""The launcher process: `python -P -m forkd.daemon CONFIG [--daemonized] [--exit-on-failed]`; `forkd start` becomes it.

It joins the core's loop to the kernel, the log, the service manager and the control socket, and decides nothing
itself. It must stay small: no service code, no YAML, and of the standard library only what is cheap.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import forkd
from forkd import log, notify, process
from forkd.control import kinds, words
from forkd.control.endpoint import Endpoint
from forkd.control.rundir import RuntimeDir
from forkd.core import loop
from forkd.core.commands import ReadConfig
from forkd.core.events import ConfigRead, ConfigRefused, Stop
from forkd.core.supervisor import Supervisor
from forkd.errors import ConfigError, ForkdError
from forkd.kernel import Kernel
from forkd.kernel.reader import NothingRead
from forkd.log import Log, keep_standard_descriptors, say, stamp
from forkd.tallies import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.core.commands import Command
    from forkd.core.events import Event
    from forkd.core.spec import Config
    from forkd.core.state import News
    from forkd.scoreboard import Counters

FAILED, SERVICE_FAILED, BAD_CONFIG = 1, 70, 78
_NEVER = {"lateness": None, "last_run": None}
_SETTLED = {"running", "stopped"}


class Daemon:
    """One launcher with a configuration and a runtime directory. To the core's loop it is the kernel.

    What is due of its own accord (signs of life to the service manager) shortens the kernel's sleep, and nothing else.
    """

    def __init__(
        self, path: str, config: Config, kernel: Kernel, rundir: RuntimeDir, *, exit_on_failed: bool = False
    ) -> None:
        self._path = path
        self._kernel = kernel
        self._rundir = rundir
        self._log = Log()
        self._log_as(config)
        self._chronicle = words.Chronicle()
        self._notifier = notify.Notifier(notify.take_environment(os.environ, os.getpid()), kernel.now())
        self._supervisor = Supervisor(config, kernel.now(), exit_on_failed=exit_on_failed)
        self._endpoint = Endpoint(rundir.listener, self.status, self.checks)
        kernel.watch(self._endpoint, self._endpoint.turn)

    def run(self, first: Sequence[Event]) -> int:
        """Supervise until all is down and return the exit code.

        `first` is what happened before there was anybody to observe it.
        """
        self._log.info(f"forkd {forkd.__version__} starts on {self._path}, pid {os.getpid()}")
        for event in first:
            self._supervisor.observe(event, self.now())
        loop.run(self._supervisor, self, self.report)
        self._kernel.sweep()
        if self._supervisor.failed:
            self._log.error("stopped, since a service failed for good")
            return SERVICE_FAILED
        self._log.info("stopped")
        return 0

    def close(self) -> None:
        """Let go of everything, the clients last: to one that waits for the end, this is how it comes."""
        self._kernel.unwatch(self._endpoint)
        self._kernel.close()
        self._rundir.release()
        self._notifier.close()
        self._endpoint.close()

    def now(self) -> float:
        """Give monotonic seconds."""
        return self._kernel.now()

    def perform(self, command: Command) -> list[Event]:
        """Have the kernel do it."""
        return self._kernel.perform(command)

    def wait(self, deadline: float | None) -> list[Event]:
        """Have the kernel wait, but not past what the service manager expects of us."""
        due = [at for at in (deadline, self._notifier.deadline()) if at is not None]
        events = self._kernel.wait(min(due, default=None))
        for event in events:
            if isinstance(event, ConfigRead):
                self._log_as(event.config)
        return events

    def report(self, news: Sequence[News]) -> None:
        """Pass on the news of one turn: to the log, to the service manager, to the clients that wait for them."""
        for item in news:
            said = self._chronicle.say(item)
            self._log.write(said.level, said.text, said.origin, **kinds.labels(item._asdict()))
            if item.kind == "reload_started":
                self._notifier.repeat()
        now = self.now()
        if news and self._notifier.active:
            picture = self._supervisor.snapshot(now, brief=True)
            self._notifier.observe(picture["forkd"]["state"], _summary(picture))
        self._notifier.tick(now)
        self._endpoint.tell(news)

    def status(self, detailed: str | None = None) -> dict[str, Any]:
        """Return the picture of `forkd status --json` without what /proc knows; `detailed` is the service asked for."""
        now = self.now()
        picture = self._supervisor.snapshot(now, detailed)
        last = picture["forkd"]["last_reload"]
        who = {"version": forkd.__version__, "pid": os.getpid()}
        picture["forkd"] = {
            **who,
            "state": picture["forkd"]["state"],
            "uptime": round(picture["forkd"]["uptime"], 3),
            "config": self._path,
            "generation": picture["forkd"]["generation"],
            "last_reload": last and _dated(last, now),
        }
        for service in picture["services"]:
            service["workers"] = [self._described(worker, now) for worker in service["workers"]]
            for slot in service.get("slots", ()):
                slot["exits"] = [_dated(end, now) for end in slot["exits"]]
            counters = self._kernel.totals(service["name"])
            service["totals"] = {
                "requests": counters.requests,
                "errors": counters.errors,
                "tasks": _tasks(counters),
            }
        return picture

    def checks(self) -> list[dict[str, Any]]:
        """Return the workers that are to be asked how they are: where, and how, and what is known of it."""
        services, checks = self._supervisor.snapshot(self.now())["services"], self._kernel.checks
        ready = [worker for one in services for worker in one["workers"] if worker["phase"] == "ready"]
        return [
            {"id": one["id"], "socket": check.socket, **check.spec._asdict(), "health": one["health"]}
            for one in ready
            if (check := checks.get(one["id"])) is not None
        ]

    def _log_as(self, config: Config) -> None:
        self._log.set(config.log_level, config.log_format)
        log.share(config.log_level, config.log_format)

    def _described(self, worker: dict[str, Any], now: float) -> dict[str, Any]:
        counters = self._kernel.describe(worker["id"])
        worker["uptime"] = round(worker["uptime"], 3)
        beat = counters.heartbeat if counters else 0.0
        worker["heartbeat_age"] = round(max(0.0, now - beat), 3) if beat else None
        for name in ("requests", "in_flight", "errors"):
            worker[name] = getattr(counters, name) if counters else None
        worker["tasks"] = _tasks(counters) if counters else []
        worker["last_exit"] = worker["last_exit"] and _dated(worker["last_exit"], now)
        return worker


def main(arguments: Sequence[str]) -> int:
    """Run the launcher on a configuration file, as the flags after it say; return its exit code."""
    keep_standard_descriptors()
    path, *flags = arguments
    process.set_title(f"forkd: launcher [{os.path.basename(path)}]")
    try:
        return _run(path, flags)
    except ConfigError as error:
        say(str(error))  # there is no log before there is a configuration
        return BAD_CONFIG
    except ForkdError as error:
        say(f"forkd: {error}")
        return FAILED


def _run(path: str, flags: Sequence[str]) -> int:
    kernel = Kernel(path, "")
    try:
        config, rest = _read(kernel)
        if config is None:
            kernel.close()
            return 0
        rundir = RuntimeDir(config.runtime_dir)
    except ForkdError:
        kernel.close()
        raise
    if "--daemonized" in flags:
        process.leave_terminal()  # not before: what prevents a start is said there
    kernel.move(rundir.path)
    daemon = Daemon(path, config, kernel, rundir, exit_on_failed="--exit-on-failed" in flags)
    try:
        return daemon.run(rest)
    finally:
        daemon.close()


def _read(kernel: Kernel) -> tuple[Config | None, list[Event]]:
    """Read the configuration as a reload does; None when told to stop meanwhile.

    With it comes what else happened: a HUP after the file was opened asks for a second reading.
    Raises ConfigError, or ForkdError when it cannot be read.
    """
    config: Config | None = None
    rest: list[Event] = []
    events = kernel.perform(ReadConfig())
    while config is None:
        for event in events:
            if isinstance(event, ConfigRead):
                config = event.config
            elif isinstance(event, NothingRead):
                raise ForkdError("\n".join(event.problems))
            elif isinstance(event, ConfigRefused):
                raise ConfigError(list(event.problems))
            elif isinstance(event, Stop):
                return None, []
            else:
                rest.append(event)
        events = kernel.wait(None) if config is None else []
    return config, rest


def _summary(picture: dict[str, Any]) -> str:
    """Return how the services are, in words for `systemctl status`."""
    services = picture["services"]
    good = sum(service["state"] in _SETTLED for service in services)
    ready = sum(service["ready"] for service in services)
    text = f"{picture['forkd']['state']}: {good} of {len(services)} services as wanted, {ready} workers ready"
    for service in services:
        if service["state"] not in _SETTLED:
            text += f"; {service['name']} {service['state']}" + (f" ({service['error']})" if service["error"] else "")
    return text[:500]


def _tasks(counters: Counters) -> list[dict[str, Any]]:
    """Return what was counted of each periodic task; times are of the last run, in seconds."""
    tasks = []
    for tally in counters.tallies:
        if tally.kind == "task":
            *counts, last_run, lateness = tally.values
            times = {"lateness": lateness / 1e9, "last_run": stamp(last_run / 1e9)} if last_run else _NEVER
            tasks.append({"name": tally.name, **dict(zip(KINDS["task"].counts, counts, strict=True)), **times})
    return tasks


def _dated(what: dict[str, Any], now: float) -> dict[str, Any]:
    """Return something that happened `at` an instant, with a time of the wall clock instead."""
    return {**what, "at": _wall_clock(what["at"], now)}


def _wall_clock(at: float, now: float) -> str:
    return stamp(time.time() - (now - at))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
