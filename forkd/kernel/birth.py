"""What a child of the launcher does between fork and exec: it becomes who it is to be, and runs its program."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from forkd import bounds, channel, interpreter, process, secret_files, tls_files
from forkd.config.runtime_dir import locks_dir
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from forkd.channel import Channel
    from forkd.core.spec import ServiceSpec

ZYGOTE_CHANNEL = 3  # the descriptor; with 0, 1, 2 and that of its TLS files it is all that a zygote inherits
_STDIN, _STDOUT = 0, 1
_PASSABLE = 0o711  # for each to find its own
# What is for the launcher alone. To systemd there is one main process, and one watchdog.
_NOT_INHERITED = (
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    process.SUBREAPER,
)


def become_zygote(spec: ServiceSpec, lower: Channel, runtime_dir: str) -> int:
    """Become a zygote, `lower` being its end of the channel; when that fails say why on it and return an exit code."""
    try:
        if sys.version_info >= (3, 12):
            sys.deactivate_stack_trampoline()  # which writes to a file for perf, that is the channel's descriptor soon
        os.setsid()
        os.dup2(lower.fileno(), ZYGOTE_CHANNEL)
        os.set_inheritable(ZYGOTE_CHANNEL, True)
        os.closerange(ZYGOTE_CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
        _no_stdin()
        who = process.account(spec.user, spec.group)
        environment = _environment(spec, who, runtime_dir)  # while it may read the secrets
        if spec.tls.certfile:
            tls_files.hand_over(tls_files.read(spec.tls))
        if spec.umask is not None:
            os.umask(spec.umask)
        if who.uid != os.geteuid():
            _make_locks_dir(who, runtime_dir)
        bounds.impose(spec)
        process.become(who)
        _run(interpreter.command("forkd.zygote", python=spec.python), environment)
    except (OSError, ForkdError) as error:
        channel.from_fd(ZYGOTE_CHANNEL).send(channel.failed(f"cannot start the zygote: {error}", ""))
        return 1


def become_reader(path: str, out: int) -> int:
    """Become the reader of the configuration `path`, which prints to the descriptor `out`."""
    os.setpgid(0, 0)  # what a terminal sends to its foreground group is for the launcher
    os.dup2(out, _STDOUT)
    _no_stdin()
    _run(interpreter.command("forkd.config", path), dict(os.environ))


def _make_locks_dir(who: process.Account, runtime_dir: str) -> None:
    """Make the folder that workers of another user could not make for themselves."""
    folder = locks_dir(runtime_dir, who.uid)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    parent = os.open(os.path.dirname(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(parent).st_uid != os.geteuid():
        raise ForkdError(f"{os.path.dirname(folder)} is not the launcher's own")
    os.fchmod(parent, _PASSABLE)
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.basename(folder), 0o700, dir_fd=parent)
    os.chown(os.path.basename(folder), who.uid, who.gid, dir_fd=parent, follow_symlinks=False)
    os.close(parent)


def _environment(spec: ServiceSpec, who: process.Account, runtime_dir: str) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    if spec.user is not None and who.name is not None and who.home is not None:
        environment.update(HOME=who.home, LOGNAME=who.name, USER=who.name)
    environment.update(spec.environment)
    environment.update(secret_files.variables(spec.secrets))
    environment["FORKD_RUNTIME_DIR"] = runtime_dir
    return environment


def _run(command: list[str], environment: dict[str, str]) -> NoReturn:
    os.execve(command[0], command, environment)  # noqa: S606 -- as meant


def _no_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _STDIN)
    os.close(null)
