"""What is raised where an invariant does not hold."""

from __future__ import annotations

EPSILON = 1e-6  # of rounding, in seconds


class Violation(AssertionError):
    """An invariant does not hold; the text says which, and for what."""
