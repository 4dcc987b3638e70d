"""Secrets, each a file whose content becomes an environment variable; nothing here tells what one holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forkd import smallfile
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 1 << 16  # bytes; the kernel lets a variable have twice as many


def variables(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the contents of these files by variable. Raises ForkdError with the key and the path of one that fails."""
    found = {}
    for name, path in secrets.items():
        try:
            found[name] = content(path)
        except ForkdError as error:
            raise ForkdError(f"secrets.{name}: {error}") from None
    return found


def content(path: str) -> str:
    """Return what the file holds, without the newline that editors put at its end.

    Raises ForkdError with the path and the reason.
    """
    try:
        data = smallfile.read(path, LONGEST).data
    except ValueError as error:
        raise ForkdError(f"{path}: {error}") from None
    if b"\0" in data:
        raise ForkdError(f"{path}: holds a NUL byte, which no environment variable can")
    return os.fsdecode(data.removesuffix(b"\n"))
