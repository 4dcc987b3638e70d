"""`wsgi.file_wrapper`: a file as an iterable of blocks, or as what the kernel can send by itself."""

from __future__ import annotations

import os
import stat
from io import BufferedRandom, BufferedReader, FileIO
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import Self


class Extent(NamedTuple):
    """Bytes of a regular file: its descriptor, where they begin, and how many there are."""

    fd: int
    start: int
    size: int


class FileWrapper:
    """Yields a file's blocks from where it stands; closing it closes the file, where that can be closed.

    A file is anything with a `read` that returns at most so many bytes, and b"" at the end.
    """

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self._file = file
        self._block_size = block_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        block: bytes = self._file.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def extent(self) -> Extent | None:
        """Return what is left of the file, where its descriptor has the same bytes that `read` returns; else None.

        So it is asked who reads: a `GzipFile` has a descriptor too, and Django's `File` reads by the file within.
        """
        read = self._file.read
        reader: Any = getattr(read, "__self__", None)
        raw = reader.raw if type(reader) in (BufferedReader, BufferedRandom) else reader
        if type(raw) is not FileIO or read != reader.read or reader.closed or not reader.readable():
            return None
        reader.flush()
        status = os.fstat(raw.fileno())
        # One without blocks is empty, or is made up as it is read, as those of /proc and /sys are.
        if not stat.S_ISREG(status.st_mode) or not status.st_blocks:
            return None
        start = reader.tell()
        return Extent(raw.fileno(), start, max(0, status.st_size - start))

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()

    # By these Werkzeug goes to the beginning of a range, which it would else read its way to.

    def seekable(self) -> bool:
        """Return whether the file can be told where to stand."""
        seekable = getattr(self._file, "seekable", None)
        return seekable is not None and seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Let the file stand elsewhere."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return where the file stands."""
        return int(self._file.tell())
