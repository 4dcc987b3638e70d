"""What a process does to itself: fork safely, change user, name itself, end with its parent. It decides nothing."""

from __future__ import annotations

import contextlib
import functools
import grp
import importlib.machinery
import mmap
import os
import pwd
import resource
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple

from forkd.errors import ForkdError
from forkd.log import STDERR
from forkd.signals import blocked

if TYPE_CHECKING:
    from collections.abc import Callable

SUBREAPER = "FORKD_SUBREAPER"  # the environment variable that says which process is one
_SIGNAL_STACK = 1024 * 1024  # bytes of address space, enough for all signals at once; pages not used cost nothing
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


class Account(NamedTuple):
    """A user and a group as the configuration means them; `name` is None for a user without an entry."""

    uid: int
    gid: int
    name: str | None
    home: str | None


def fork(child: Callable[[], int], reset: Callable[[], None]) -> int:
    """Fork; the child runs `reset`, then `child`, and leaves with the code that it returns. Give its pid.

    Signals are held back until `reset` is done, which must undo what the parent does with them:
    one that comes at once would else be handled by the parent's handlers, and wake the parent.
    """
    with blocked():
        pid = os.fork()
        if pid == 0:
            _live(child, reset)
        return pid


def _live(child: Callable[[], int], reset: Callable[[], None]) -> None:
    """Run a child's life; nothing of it may return into the code of its parent."""
    code = 1
    try:
        reset()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = child()
    except BaseException as error:  # noqa: BLE001 -- there is nobody above to catch it
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent ends, for good and over every exec.

    Calling it again costs nothing.
    """
    if os.environ.get(SUBREAPER) != str(os.getpid()):
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        os.environ[SUBREAPER] = str(os.getpid())


def precede_launcher() -> None:
    """Do what lasts over the exec of the launcher: it has no room for ctypes, and heeds no signal before it is up."""
    become_subreaper()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP))


def leave_terminal() -> None:
    """Read from nobody, and write to no terminal any more; a file or a pipe stays what stdout or stderr is."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(STDERR + 1):
        if number == 0 or os.isatty(number):
            os.dup2(null, number)
    os.close(null)


def die_with_parent(number: int) -> None:
    """Get a signal when the thread that is now the parent ends; 0: none. A change of credentials undoes it."""
    _prctl(_PR_SET_PDEATHSIG, number)


def raise_descriptor_limit() -> int:
    """Let this process open as many descriptors as it ever may; give how many it might until now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def limit_descriptors(most: int) -> None:
    """Let this process open so many descriptors and no more, unless it asks; what is open stays open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, hard), hard))


def dump_stacks_on_abort() -> None:
    """Have ABRT, and every crash, write the Python stacks of all threads to stderr before it ends the process.

    A forked process inherits that. Call it in the main thread, and nothing else that enables faulthandler.
    """
    import faulthandler  # lazy: not for the launcher, as ctypes

    faulthandler.enable(file=STDERR)  # the code may close, replace or remove `sys.stderr`
    # From now on handlers run on faulthandler's own stack, for which 16 KiB must do. A frame of a signal takes
    # up to 11 KiB of it on processors with wide registers, so already a few signals at once would overflow it.
    _signal_stack(_SIGNAL_STACK)


def flush_output() -> None:
    """Write what stdout and stderr hold back, as far as the code has neither closed, replaced nor removed them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


def account(user: str | None, group: str | None) -> Account:
    """Look up who a process is to be: names or numbers; by default the present user, and the user's own group.

    Raises ForkdError when there is no such user or group.
    """
    uid, gid, name, home = os.geteuid(), os.getegid(), None, None
    if user is not None:
        entry = _user(user)
        if entry is None:
            uid = int(user)
        else:
            uid, gid, name, home = entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir
    if group is not None:
        gid = _group(group)
    return Account(uid, gid, name, home)


def become(who: Account) -> None:
    """Change to another user and group for good, supplementary groups included.

    Raises ForkdError when this process may not. It changes nothing when it is that user already.
    """
    if (os.geteuid(), os.getegid()) == (who.uid, who.gid):
        return
    try:
        if who.name is None:
            os.setgroups([who.gid])
        else:
            os.initgroups(who.name, who.gid)
        os.setgid(who.gid)
        os.setuid(who.uid)
    except PermissionError:
        msg = f"only root may run a service as user {who.name or who.uid} (group {who.gid})"
        raise ForkdError(msg) from None


def set_title(title: str) -> None:
    """Name this process in `ps` and `top`."""
    _titler()(title)


@functools.cache
def _titler() -> Callable[[str], None]:
    # Only the C part: its package imports `logging`, for which the launcher has no room.
    finder = importlib.machinery.PathFinder
    package = finder.find_spec("setproctitle")
    found = package and finder.find_spec("_setproctitle", package.submodule_search_locations)
    module = found and found.loader and found.loader.create_module(found)
    if not found or not found.loader or not module:
        msg = "the package setproctitle is not installed"
        raise ForkdError(msg)
    found.loader.exec_module(module)
    title: Callable[[str], None] = module.setproctitle
    return title


def _user(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return None
        msg = f"there is no user {user!r}"
        raise ForkdError(msg) from None


def _group(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        msg = f"there is no group {group!r}"
        raise ForkdError(msg) from None


def _prctl(option: int, value: int) -> None:
    code = _libc_prctl()(option, value)
    if code != 0:
        raise OSError(code, os.strerror(code))


@functools.cache
def _libc_prctl() -> Callable[[int, int], int]:
    """Return a function that calls prctl(2) and returns 0 or the error's number."""
    import ctypes  # lazy: large, and the launcher that was execed by `forkd start` never needs it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    return lambda option, value: ctypes.get_errno() if libc.prctl(option, value, 0, 0, 0) else 0


@functools.cache  # which keeps the memory for as long as the process lives
def _signal_stack(size: int) -> object:
    """Let the main thread's signal handlers run on a stack of that size, sigaltstack(2)."""
    import ctypes  # lazy: as above

    class Stack(ctypes.Structure):
        _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))

    # Private, unlike what mmap gives by default: the processes forked from here must not share a stack.
    private = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = (ctypes.c_char * size).from_buffer(private)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, size)), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return memory
