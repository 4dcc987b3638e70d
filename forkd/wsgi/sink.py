"""Where lines go that nobody may wait for: a file of one's own, or a stream that is shared with other writers."""

from __future__ import annotations

import errno
import os
import posix  # its `write` is the plain one in a process where eventlet has replaced that of `os`
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

_STREAMS = {"stdout": 1, "stderr": 2}
_MODE = 0o640
# NONBLOCK is for a FIFO; a regular file does not know it.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STREAM_LIMIT = 4096  # bytes that go into a pipe whole or not at all, between the lines of other processes: pipe(7)
_FILE_LIMIT = 16384
_BLOCK = 65536
_UNKNOWN = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Sink:
    """A file that lines are appended to, or `stdout`, or `stderr`; only whole lines go there, and never one too long.

    A line has at most `limit` bytes. A stream may be full: what its reader does not take at once is not written. A file
    takes everything, or raises `OSError`.
    """

    def __init__(self, name: str, is_writable: Callable[[int], bool]) -> None:
        """Open it, and make the file; raise `OSError` when that cannot be."""
        self.name = name
        self._is_writable = is_writable
        self._fd = _open(name)
        self._regular = _is_regular(self._fd)
        self.limit = _FILE_LIMIT if self._regular else _STREAM_LIMIT
        self._torn = False  # it ends in the midst of a line

    def write(self, lines: deque[bytes]) -> int:
        """Take lines from the left as far as they can be written at once; return how many bytes of `lines` that were.

        Raise `OSError` when no line can be written.
        """
        most = _BLOCK if self._regular else _STREAM_LIMIT
        taken = 0
        while lines:
            block = _block(lines, most - self._torn)
            if self._torn:
                block = b"\n" + block
            written = self._offer(block)
            if not written:
                break
            for _ in range(block[:written].count(b"\n") - self._torn):
                taken += len(lines.popleft())
            # Of a line that was written in part the beginning stands there for good; it is written whole after it.
            self._torn = not block[:written].endswith(b"\n")
        return taken

    def reopen(self) -> None:
        """Open the file by its name again, which somebody may have given to another one; raise `OSError` and keep it.

        A stream stays as it is.
        """
        if self.name not in _STREAMS:
            before, self._fd = self._fd, _open(self.name)
            self._regular = _is_regular(self._fd)
            self._torn = False
            os.close(before)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _offer(self, block: bytes) -> int:
        """Return how many bytes of it were taken; none of a stream that would make us wait."""
        if self._regular:
            return posix.write(self._fd, block)
        try:
            # Between a look whether there is room and the write, another process could have filled it.
            return os.pwritev(self._fd, (block,), -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        # A terminal, or the pipe of a kernel before 6.4.
        return posix.write(self._fd, block) if self._is_writable(self._fd) else 0


def _open(name: str) -> int:
    return os.dup(_STREAMS[name]) if name in _STREAMS else os.open(name, _FLAGS, _MODE)


def _is_regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _block(lines: deque[bytes], most: int) -> bytes:
    """Return the first lines, as many as go into `most` bytes; one at least."""
    block: list[bytes] = []
    for line in lines:
        most -= len(line)
        if most < 0 and block:
            break
        block.append(line)
    return b"".join(block)
