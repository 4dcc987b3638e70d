"""What the lines that a thread logs are about: the context of the call that it runs, green threads each their own."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from forkd.log import printable

_NOTHING: dict[str, Any] = {}
_current: ContextVar[dict[str, Any]] = ContextVar("forkd.context", default=_NOTHING)
_ROOM = 1000  # bytes of it in a line, as JSON

set_current = _current.set
"""Have this thread be about a context, `{}` for none; it is never written to."""

current = _current.get
"""Return the context that this thread is about."""


def shown() -> dict[str, str]:
    """Return what a log line says of it: entries that are text or numbers, as long as there is room for them.

    Callers have a say in it, so nothing in it ends a line.
    """
    entries: dict[str, str] = {}
    room = _ROOM
    for name, value in current().items():
        if isinstance(value, (str, int, float)):
            entry = {printable(name): printable(str(value))}
            room -= len(json.dumps(entry))
            if room < 0:
                break
            entries |= entry
    return entries
