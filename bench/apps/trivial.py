"""The least that a worker can run: nothing. So what is measured is forkd's own."""

from __future__ import annotations

import forkd


class Trivial(forkd.Server):
    """Serves nobody."""
