"""The launcher's hold on its runtime directory: one launcher at a time, and nobody else's files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from forkd import sockets
from forkd.control import protocol
from forkd.errors import ForkdError

LOCK, PID = "forkd.lock", "forkd.pid"
_BACKLOG = 1024  # a command that finds it full fails at once instead of waiting
_OWN, _PASSABLE = 0o700, 0o711  # services of other users find their RPC sockets below root's


class RuntimeDir:
    """Ours from `__init__` to `release`, or to the death of this process: a lock that the kernel keeps says so.

    Nobody inherits the lock. Raises ForkdError when the directory is another launcher's, or nobody should trust it.
    """

    __slots__ = ("_folder", "_lock", "listener", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._folder = _open_folder(path)
        self._lock = -1
        try:
            self._lock = self._take_lock()
            self._write_pid()
            # The lock says that whoever made the socket file is dead, so a stale one is taken over.
            self.listener = sockets.listen(f"unix:{os.path.join(path, protocol.SOCKET)}", _BACKLOG, 0o600)
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Remove our files and let the next launcher in. The lock's own file stays: another may have it open."""
        self.listener.close()
        for name in (protocol.SOCKET, PID):
            with contextlib.suppress(OSError):  # gone, or not a file of ours any more: nothing to leave behind
                os.unlink(name, dir_fd=self._folder)
        self._close()

    def _take_lock(self) -> int:
        lock = self._open(LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            pid = self._read_pid()
            who = f"a launcher is already running on {self.path}{f' (pid {pid})' if pid else ''}"
            raise ForkdError(f"{who}; stop it first, or give this one a `runtime_dir` of its own") from None
        return lock

    def _read_pid(self) -> str:
        with contextlib.suppress(OSError), open(os.path.join(self.path, PID), "rb") as file:
            return file.read(20).strip().decode(errors="replace")
        return ""

    def _write_pid(self) -> None:
        """Write the file aside and rename it: whoever reads it finds a whole one."""
        aside = f"{PID}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=self._folder)
            with open(self._open(aside, os.O_WRONLY | os.O_EXCL, 0o644), "wb", buffering=0) as file:
                file.write(f"{os.getpid()}\n".encode())
            os.rename(aside, PID, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=self._folder)
            raise ForkdError(f"cannot write {os.path.join(self.path, PID)}: {error.strerror}") from None

    def _open(self, name: str, how: int, mode: int = 0o600) -> int:
        try:
            return os.open(name, how | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._folder)
        except OSError as error:
            raise ForkdError(f"cannot open {os.path.join(self.path, name)}: {error.strerror}") from None

    def _close(self) -> None:
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._folder = -1


def _open_folder(path: str) -> int:
    """Open the directory, made where there is none; a link is not followed, since in /tmp anybody could lay one."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, _PASSABLE if os.geteuid() == 0 else _OWN)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ForkdError(f"cannot use {path} as runtime directory: {_cause(path, error)}") from None
    if (refusal := _refusal(os.fstat(folder))) is not None:
        os.close(folder)
        raise ForkdError(f"cannot use {path} as runtime directory: {refusal}")
    return folder


def _cause(path: str, error: OSError) -> str | None:
    # Linux says ENOTDIR of a symbolic link when a directory is asked for.
    if error.errno in {errno.ELOOP, errno.ENOTDIR} and os.path.islink(path):
        return "it is a symbolic link; name the directory itself"
    if error.errno == errno.ENOENT:
        return f"there is no {os.path.dirname(path)} to make it in"
    return error.strerror


def _refusal(found: os.stat_result) -> str | None:
    if found.st_uid not in {0, os.geteuid()}:
        return f"it belongs to user {found.st_uid}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        return f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    return None
