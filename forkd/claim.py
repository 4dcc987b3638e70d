"""Tasks that one worker of this host runs at a time: the kernel knows who has claimed one, a file when it ran last."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
import time
import weakref
from typing import Any
from urllib.parse import quote

from forkd.config.runtime_dir import locks_dir, present_runtime_dir
from forkd.errors import ForkdError
from forkd.threadgroup.schedules import Grid, Schedule, Tick

_log = logging.getLogger("forkd.periodic")

_FORMAT, _LENGTH = "%017.6f\n", 18  # of one length until the year 2286, so that a new time covers the last one
_TIME = re.compile(rb"\d{10}\.\d{6}\n")
_WHOLE_FILE = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock, fcntl(2)

_all: weakref.WeakSet[Claim] = weakref.WeakSet()


class Claim:
    """A task of a service, held by one process of this host at most, from `take` to `close` or to its death.

    The lock is an OFD lock: it belongs to the open file. A program that the holder executes does not inherit it, nor
    does a fork made by Python. One made behind Python's back does, and holds it on until it ends itself.
    """

    def __init__(self, service: str, task: str) -> None:
        """Raise `ForkdError` when its file cannot be had; it is in the runtime directory."""
        # A service of a script has any name; below each user's own folder nobody can take a name away.
        name = f"{quote(service, safe='')}.{task}.lock"
        self._path = os.path.join(locks_dir(present_runtime_dir(), os.geteuid()), name)
        self._file = -1
        self.held = False
        _all.add(self)
        try:
            self._open()
        except OSError as error:
            raise ForkdError(f"periodic task {task}: cannot open {self._path}: {error.strerror}") from None

    def take(self) -> bool:
        """Claim the task, unless another process has; return whether it is ours. Never wait."""
        try:
            if not self._is_in_place():
                self.close()
                self._open()
            self.held = self.held or _lock(self._file)
        except OSError as error:
            self.close()
            _log.error("cannot claim a periodic task by %s: %s", self._path, error.strerror)
        return self.held

    def age(self) -> float | None:
        """Return how many seconds ago the task was started last, here or elsewhere; None when nobody knows."""
        try:
            found, now = os.pread(self._file, _LENGTH + 1, 0), time.time()
        except OSError:
            return None  # which `take` has told of
        if _TIME.fullmatch(found) and float(found) <= now:
            return now - float(found)
        if found and self.held:  # else it may be the holder's that is just being written
            what = "a time to come" if _TIME.fullmatch(found) else "no time"
            _log.warning("%s holds %s, %r: the task counts as never started", self._path, what, found)
        return None

    def note(self) -> None:
        """Write down that the task is started now."""
        try:
            os.pwrite(self._file, (_FORMAT % time.time()).encode(), 0)
            os.ftruncate(self._file, _LENGTH)
        except OSError as error:
            _log.error("cannot write the time of a start to %s: %s", self._path, error.strerror)

    def close(self) -> None:
        """Give the task up, for another worker to take over."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self.held = False

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _is_in_place(self) -> bool:
        """Tell whether our file is the one that others find: whoever tidies up would else make two holders."""
        if self._file < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False


class ClaimedSchedule(Schedule):
    """A schedule for many workers, of whom one makes the calls; the others stand by for when it is gone.

    Each begins with a try to claim the task, and tries again whenever a call is due. Who takes it over goes on where
    the last one left it.
    """

    def __init__(self, inner: Grid, claim: Claim, *, run_immediately: bool) -> None:
        self.clock = inner.clock
        self._inner = inner
        self._claim = claim
        self._run_immediately = run_immediately

    def first(self, now: float) -> float:
        """As in `Schedule`."""
        return now

    def confirm(self, due: float, now: float) -> float:
        """As in `Schedule`: a call that is due is ours only with the claim."""
        if now < due:
            return self._inner.confirm(due, now)
        before = self._claim.held
        if not self._claim.take():
            return self._stand_by(now)
        if not before:
            due = self._take_over(now)
        if due <= now:
            self._claim.note()
        return due

    def following(self, due: float, now: float, result: Any) -> Tick | None:
        """As in `Schedule`."""
        return self._inner.following(due, now, result)

    def close(self) -> None:
        """As in `Schedule`."""
        self._claim.close()

    def _take_over(self, now: float) -> float:
        ago = self._claim.age()
        if ago is not None:
            return self._inner.resumed(ago, now)
        if not self._run_immediately:
            self._claim.note()  # so that the next worker does not begin anew to wait for the first call
        return self._inner.first(now)

    def _stand_by(self, now: float) -> float:
        """Return when the holder's next call is due, as far as it can be known."""
        due = self._inner.resumed(self._claim.age() or 0.0, now)
        return due if due > now else self._inner.resumed(0.0, now)


def _lock(file: int) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except BlockingIOError:
        return False
    return True


def _let_go() -> None:
    """In a fork of the worker: it is not the worker, and must not keep what that holds from the next one."""
    for claim in list(_all):
        claim.close()


os.register_at_fork(after_in_child=_let_go)
