"""`forkd run`: one service of a configuration in this very process, for debuggers; no launcher, no zygote, no fork."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

from forkd import assembly, bounds, config, interpreter, log, logs, process, secret_files, threadgroup, tls_files
from forkd.errors import ForkdError
from forkd.launcher import ServiceLauncher
from forkd.signals import do_nothing_on

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec

_log = logging.getLogger("forkd")


def run(path: str, name: str) -> None:
    """Run the service `name` of the configuration at `path` until a signal stops it.

    Raises ForkdError for a name that is not there, and what the service's own code raises.
    """
    read = config.read(path)
    spec = next((spec for spec in read.services if spec.name == name), None)
    if spec is None:
        names = ", ".join(spec.name for spec in read.services)
        raise ForkdError(f"no service is named {name!r} in {path}; there are: {names}")
    if not interpreter.is_own(spec.python):
        raise ForkdError(f"{name} has its own interpreter: {spec.python} -m forkd run -c {path} {name}")
    do_nothing_on(signal.SIGUSR1)
    log.share(read.log_level, read.log_format)
    files = tls_files.read(spec.tls)  # while it may
    _become(spec, read.runtime_dir)
    threadgroup.prepare(spec.concurrency)
    logs.to_stderr(spec.name)
    tls = assembly.tls_of(spec, lambda: files)
    assembly.enter(spec)
    service = assembly.load(spec, tls)()
    launcher = ServiceLauncher()
    launcher.launch_service(service)
    _log.info("ready, pid %d%s", os.getpid(), f", on {', '.join(spec.bind)}" if spec.bind else "")
    launcher.wait()


def _become(spec: ServiceSpec, runtime_dir: str) -> None:
    """Take on what a zygote would be given before it imports anything."""
    os.environ.update(spec.environment)
    os.environ.update(secret_files.variables(spec.secrets))
    os.environ["FORKD_RUNTIME_DIR"] = runtime_dir
    if spec.umask is not None:
        os.umask(spec.umask)
    bounds.impose(spec)
    process.become(process.account(spec.user, spec.group))
