"""The housekeeper: a server with nothing but periodic tasks."""

from __future__ import annotations

import logging

from forkd import Server, periodic_task
from linkbox import store

LOG = logging.getLogger(__name__)


class Housekeeper(Server):
    """Deletes what is over. Its constructor takes the `args` of the configuration."""

    def __init__(self, keep_days: float = 30) -> None:
        super().__init__()
        self.keep_days = keep_days

    @periodic_task(spacing=60, run_immediately=True)
    def forget(self) -> None:
        """Delete links that are over and old clicks; an exception would be logged, and the next minute tries again."""
        if gone := store.forget(self.keep_days):
            LOG.info("%d links were over", gone)
