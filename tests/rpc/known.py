"""Exceptions that both sides know."""

from __future__ import annotations


class Refused(Exception):
    """One that is made from its arguments, as most are."""

    def __init__(self, why, day):
        super().__init__(why, day)
        self.day = day


class Strange(Exception):
    """One that is made from something else than its arguments."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
