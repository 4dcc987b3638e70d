"""Sends to many sockets by one system call, io_uring_enter(2); where a process may not have that, it sends nothing.

Each send by itself may wake a client, which takes the processor then, so that the two change places for every response.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import weakref
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL  # as in listener.py
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("forkd.wsgi")

MOST = 32  # sends at a time; a power of two

# Of linux/io_uring.h; the numbers of the system calls are the same on every processor.
_SETUP, _ENTER = 425, 426
_SUBMIT_ALL = 1 << 7  # also what comes behind one that fails (since Linux 5.18)
_GETEVENTS = 1 << 0
_SQES_AT = 0x10000000
_SEND = 26

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _Offsets(ctypes.Structure):
    """Where in the shared memory the parts of a ring are, in bytes; each ring has some of them."""

    _fields_ = (
        ("head", ctypes.c_uint32),
        ("tail", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("entries", ctypes.c_uint32),
        ("overflow", ctypes.c_uint32),
        ("cqes", ctypes.c_uint32),
        ("array", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class _Params(ctypes.Structure):
    """What io_uring_setup(2) is asked for, and tells: the ring of what is to be done, and that of what came of it."""

    _fields_ = (
        ("sq_entries", ctypes.c_uint32),
        ("cq_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("thread", ctypes.c_uint32 * 2),
        ("features", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 4),
        ("sq", _Offsets),
        ("cq", _Offsets),
    )


class _Sqe(ctypes.Structure):
    """One thing to be done; see io_uring_enter(2)."""

    _fields_ = (
        ("opcode", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("ioprio", ctypes.c_uint16),
        ("fd", ctypes.c_int32),
        ("off", ctypes.c_uint64),
        ("addr", ctypes.c_char_p),
        ("len", ctypes.c_uint32),
        ("msg_flags", ctypes.c_uint32),
        ("user_data", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 3),
    )


class Burst:
    """Sends at once; for one thread at a time, of the process that has made it."""

    def __init__(self) -> None:
        """Say in the log, for those who look closely, if it will send nothing."""
        self._process = 0  # whose it is; 0: nobody's, since it does not work
        params = _Params(flags=_SUBMIT_ALL)
        try:
            self._fd = _called(_SETUP, MOST, ctypes.byref(params))
            weakref.finalize(self, os.close, self._fd)
            self._map(params)
        except OSError as error:
            _log.debug("responses leave one by one: io_uring: %s", error)
        else:
            self._process = os.getpid()

    def _map(self, params: _Params) -> None:
        """Map the rings; where one stands and what each entry does never changes after that."""
        size = max(params.sq.array + 4 * params.sq_entries, params.cq.cqes + 16 * params.cq_entries)
        rings = memoryview(mmap.mmap(self._fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE))
        self._words, self._signed = rings.cast("I"), rings.cast("i")
        self._sqes = list((_Sqe * MOST).from_buffer(mmap.mmap(self._fd, mmap.PAGESIZE, offset=_SQES_AT)))
        for number, sqe in enumerate(self._sqes):
            sqe.opcode, sqe.msg_flags, sqe.user_data = _SEND, MSG_DONTWAIT | MSG_NOSIGNAL, number
            self._words[params.sq.array // 4 + number] = number
        self._sq_tail, self._cq_head, self._cq_tail, self._cqes = (
            at // 4 for at in (params.sq.tail, params.cq.head, params.cq.tail, params.cq.cqes)
        )
        self._cq_entries = params.cq_entries

    def send(self, what: Sequence[tuple[int, bytes]]) -> dict[int, int]:
        """Write bytes to sockets, each by its descriptor, and wait for none; return what came of it, by place.

        That is how many bytes a socket has taken, or the negative number of an error. Of those that have no outcome,
        such as all beyond `MOST`, nothing has been sent.
        """
        if self._process != os.getpid():
            return {}
        words, count = self._words, min(len(what), MOST)
        first = words[self._sq_tail]
        for number, (fd, data) in enumerate(what[:count], first):
            sqe = self._sqes[number % MOST]
            sqe.fd, sqe.addr, sqe.len = fd, data, len(data)
        words[self._sq_tail] = (first + count) % 2**32
        try:
            done = _called(_ENTER, self._fd, count, count, _GETEVENTS, None, 0)
        except OSError as error:
            done = 0
            _log.debug("responses leave one by one from now on: io_uring: %s", error)
        if done < count:
            self._process = 0  # what the kernel has not taken would be sent the next time
        return self._outcomes(first)

    def _outcomes(self, first: int) -> dict[int, int]:
        """Take off the ring what came of sends, of which the first had that number."""
        words, found = self._words, {}
        head, tail = words[self._cq_head], words[self._cq_tail]
        for number in range(head, head + (tail - head) % 2**32):
            at = self._cqes + 4 * (number % self._cq_entries)
            found[(words[at] - first) % MOST] = self._signed[at + 2]
        words[self._cq_head] = tail
        return found


def _called(number: int, *args: object) -> int:
    """Make a system call for which the C library has no function; raise `OSError` when it fails."""
    result = int(_syscall(number, *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
