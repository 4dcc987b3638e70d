"""Ids of requests and calls: another's, where it is believed, else one of ours; no two of ours are alike anywhere."""

from __future__ import annotations

import itertools
import os
import re

_GOOD = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")


class RequestIds:
    """Makes them: 8 random bytes of this process in hex, and how many it has made. A fork needs its own."""

    def __init__(self) -> None:
        self._process = os.urandom(8).hex()
        self._count = itertools.count(1)  # one step of which no other thread interrupts

    def new(self) -> str:
        """Return another one."""
        return f"{self._process}-{next(self._count):x}"

    def of(self, sent: str) -> str:
        """Return the id that a proxy which is believed has `sent` along, if it is a good one, or a new one."""
        return sent if _GOOD.fullmatch(sent) else self.new()
