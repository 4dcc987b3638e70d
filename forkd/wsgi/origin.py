"""Where an application that forked comes back to the server: in its own process as ever, in the new one to its end."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forkd.wsgi.head import Request

_log = logging.getLogger("forkd.wsgi")

_forks = 0  # between this process and the one that imported this module


def _count() -> None:
    global _forks  # noqa: PLW0603 -- of the process
    _forks += 1


os.register_at_fork(after_in_child=_count)


class Origin:
    """The process that this was made in."""

    def __init__(self) -> None:
        self._forks = _forks

    def hold(self, request: Request, error: BaseException | None = None) -> None:
        """End any other process, with the status that `SystemExit` has for it: it must answer nobody a second time."""
        if _forks == self._forks:
            return
        if not isinstance(error, SystemExit):
            _log.error("%s came back in a process that it forked, which ends", request.name, exc_info=error)
            os._exit(1)
        code = error.code or 0
        os._exit(code & 0xFF if isinstance(code, int) else 1)
