"""What operators type after a command: SERVICE/SLOT, a signal, a number of workers; it asks no launcher."""

from __future__ import annotations

import re
import signal

from forkd.control.protocol import MOST_WORKERS
from forkd.errors import UsageError


def target(text: str) -> tuple[str, int | None]:
    """Return the service and the slot (None: all of them) of `SERVICE[/SLOT]`; raises UsageError."""
    service, slash, slot = text.partition("/")
    if slash and not (slot.isascii() and slot.isdecimal() and int(slot) < MOST_WORKERS):
        raise UsageError(f"expected SERVICE or SERVICE/SLOT, such as shop or shop/0, got {text!r}")
    return service, int(slot) if slash else None


def workers(text: str) -> tuple[int, bool]:
    """Return a number of workers, and whether it is one by which to change it (`+1`, `-1`); raises UsageError."""
    if not re.fullmatch("[+-]?[0-9]{1,6}", text) or abs(int(text)) > MOST_WORKERS:
        raise UsageError(
            f"expected a number of workers from 0 to {MOST_WORKERS}, or by how many to change it (+1, -1), got {text!r}"
        )
    return int(text), text[0] in "+-"


def signal_number(text: str) -> int:
    """Return the number of a signal by its name, with or without SIG, or by its number; raises UsageError."""
    known = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
    name = text.upper().removeprefix("SIG")
    if name in known:
        return known[name]
    if text.isascii() and text.isdecimal() and int(text) in signal.valid_signals():
        return int(text)
    raise UsageError(f"no signal is named {text!r}; there are: {', '.join(known)}")
