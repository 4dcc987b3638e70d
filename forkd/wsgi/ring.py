"""The memory that io_uring(7) shares with a process, and its two system calls; it knows of nothing but sends."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL  # as in listener.py

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


class Ring:
    """What is to be sent, and what came of it: two rings, of which each side counts how far it is, modulo 2**32.

    A send that has the number N by that count is described by `sqes[N % len(sqes)]`, whose `fd`, `addr` and `len` are
    for the caller to set, and is made by `enter` if `words[sq_tail]` is beyond N then. The outcomes are those from
    `words[cq_head]` to `words[cq_tail]`. Of the one with the number N, `results[N % len(results)]` is the number of
    bytes, or the negative one of an error, and `slots[N % len(results)]` tells whose it is, by the place in `sqes`.
    """

    def __init__(self, entries: int) -> None:
        """Map rings for so many sends at a time, a power of two; raise `OSError` where a process may not have them."""
        params = _Params(flags=_SUBMIT_ALL)
        self._fd = _called(_SETUP, entries, ctypes.byref(params))
        weakref.finalize(self, os.close, self._fd)
        size = max(params.sq.array + 4 * entries, params.cq.cqes + 16 * params.cq_entries)
        rings = memoryview(mmap.mmap(self._fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE))
        self.words = rings.cast("I")
        self.sq_tail, self.cq_head, self.cq_tail = params.sq.tail // 4, params.cq.head // 4, params.cq.tail // 4
        cqes = slice(params.cq.cqes, params.cq.cqes + 16 * params.cq_entries)
        self.slots, self.results = rings[cqes].cast("Q")[::2], rings[cqes].cast("i")[2::4]
        size = -(-ctypes.sizeof(_Sqe) * entries // mmap.PAGESIZE) * mmap.PAGESIZE
        self.sqes = list((_Sqe * entries).from_buffer(mmap.mmap(self._fd, size, offset=_SQES_AT)))
        for slot, sqe in enumerate(self.sqes):
            sqe.opcode, sqe.msg_flags, sqe.user_data = _SEND, MSG_DONTWAIT | MSG_NOSIGNAL, slot
            self.words[params.sq.array // 4 + slot] = slot  # each at its own place, for ever

    def enter(self, count: int) -> int:
        """Have so many sends made, none of which waits, and return how many are; raise `OSError` if none can be."""
        return _called(_ENTER, self._fd, count, count, _GETEVENTS, None, 0)


def _called(number: int, *args: object) -> int:
    """Make a system call for which the C library has no function; raise `OSError` when it fails."""
    result = int(_syscall(number, *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
