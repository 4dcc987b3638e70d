"""A small regular file, read as a whole and at once: it waits for no pipe and reads no device."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class File(NamedTuple):
    """A file as it was read: its path as users know it, the identity that no link changes, its bytes."""

    path: str
    identity: tuple[int, int]
    data: bytes


def read(path: str, longest: int) -> File:
    """Return the file at `path`, of at most `longest` bytes. Raises ValueError with a sentence, which names no path."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise ValueError(f"cannot read: {_reason(error)}") from None
    except ValueError:
        raise ValueError("cannot read: a name with a NUL character") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise ValueError(f"cannot read: it is {what}")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise ValueError(f"cannot read: {_reason(error)}") from None
    finally:
        os.close(fd)
    if len(data) > longest:
        raise ValueError(f"larger than {_size(longest)}")
    return File(path, (found.st_dev, found.st_ino), data)


def _reason(error: OSError) -> str:
    text = os.strerror(error.errno or 0)
    return text[0].lower() + text[1:]


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
