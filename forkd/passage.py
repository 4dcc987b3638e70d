"""The way to a topic's sockets for other users than the launcher's: it leads there and opens nothing beside it."""

from __future__ import annotations

import contextlib
import os
import stat

from forkd.errors import ForkdError

FOR_ALL, FOR_OWNER = 0o666, 0o600
"""What the file of a topic's socket allows: who is let through there, the worker asks the kernel."""

_FOLDER = 0o755
_PASS, _LIST = 0o011, 0o055


def make(folder: str) -> None:
    """Make the folder of a topic's sockets, `RUNTIME_DIR/rpc/TOPIC`, where it is missing; raises ForkdError."""
    try:
        for path in (os.path.dirname(folder), folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, _FOLDER)
    except OSError as error:
        raise ForkdError(f"cannot make {path}: {error.strerror}") from None


def open_to_all(folder: str) -> None:
    """Let every user look into the folder of a topic's sockets; on the way there they find only what they can name.

    Above the runtime directory nothing is changed. Raises ForkdError where this process may not.
    """
    above = os.path.dirname(folder)
    try:
        for path, bits in ((os.path.dirname(above), _PASS), (above, _PASS), (folder, _LIST)):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & bits != bits:
                os.chmod(path, mode | bits)
    except OSError as error:
        raise ForkdError(f"cannot let other users through {path}: {error.strerror}") from None
