"""The end of this process at an instant, by the kernel's own timers: nothing that runs in the process can put it off.

A task that blocks, computes, holds the interpreter's lock or is stopped by a signal cannot be told to end. The first
timer sends ABRT, which a worker's stacks are shown by; the second KILL, which nothing survives. They count on through
a sleep of the machine. A fork does not inherit them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

CLOCK = time.CLOCK_BOOTTIME  # monotonic, and it counts the time that the machine has slept, unlike `time.monotonic`

_ABSOLUTE = 1  # TIMER_ABSTIME
_SIGNAL = 0  # SIGEV_SIGNAL


def now() -> float:
    """Return seconds on the clock of deadlines."""
    return time.clock_gettime(CLOCK)


class Deadline:
    """Two of the kernel's timers, which are set, moved and cleared together."""

    def __init__(self) -> None:
        """Raise `OSError` when the kernel has none to give."""
        self._timers: list[ctypes.c_void_p] = []
        for number in (signal.SIGABRT, signal.SIGKILL):
            timer = ctypes.c_void_p()
            event = _Event(None, number, _SIGNAL)
            _checked(_libc.timer_create(CLOCK, ctypes.byref(event), ctypes.byref(timer)))
            self._timers.append(timer)

    def set(self, abort: float, kill: float) -> None:
        """Have the process end at these instants; at once, if they are over."""
        for timer, at in zip(self._timers, (abort, kill), strict=True):
            _arm(timer, at)

    def clear(self) -> None:
        """Let the process live."""
        for timer in self._timers:
            _arm(timer, 0.0)

    def close(self) -> None:
        """Give the timers back."""
        while self._timers:
            _libc.timer_delete(self._timers.pop())


class _Event(ctypes.Structure):
    _fields_ = (  # struct sigevent, sigevent(3type)
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))  # struct timespec


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))  # struct itimerspec


def _arm(timer: ctypes.c_void_p, at: float) -> None:
    """Set a timer; 0: never."""
    value = _Time(int(at), int(at % 1 * 1e9))
    _checked(_libc.timer_settime(timer, _ABSOLUTE, ctypes.byref(_Setting(_Time(0, 0), value)), None))


def _checked(code: int) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)
if not hasattr(_libc, "timer_create"):  # glibc before 2.34
    _libc = ctypes.CDLL("librt.so.1", use_errno=True)
