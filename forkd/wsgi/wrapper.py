"""`wsgi.file_wrapper`: a file as an iterable of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Readable(Protocol):
    """What an application may wrap: anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class FileWrapper:
    """Yields a file's blocks from where it stands; closing it closes the file, where that can be closed."""

    def __init__(self, file: Readable, block_size: int = 65536) -> None:
        self._file = file
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_size):
            yield block

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()
