"""What is worked out once and then known by heart, such as what a line means; no client can make it grow."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

_MOST = 1024  # entries
_LONGEST = 256  # characters of a key, so that they take no more memory than that


def keep(known: dict[K, V], key: K, size: int, meaning: V) -> None:
    """Know what a key of so many characters means, unless it is a long one; what was known may be forgotten instead."""
    if size <= _LONGEST:
        # All at once: what is asked for again is soon learned again, and who fills it keeps nobody from that.
        if len(known) >= _MOST:
            known.clear()
        known[key] = meaning
