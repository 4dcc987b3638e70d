"""Counts what the kernel sends of files by itself in this process; whoever imports it before the server starts can tell."""

from __future__ import annotations

import os

TOTAL: list[int] = []

_sendfile = os.sendfile


def counting(*args) -> int:
    sent = _sendfile(*args)
    TOTAL.append(sent)
    return sent


os.sendfile = counting  # type: ignore[assignment]
