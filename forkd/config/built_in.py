"""Services of forkd's own, which a configuration brings about without naming them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.config.merging import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkd.core.spec import ServiceSpec

# Whom to ask and how it learns from the launcher: so nothing of it changes when a healthcheck does.
_HEALTHCHECK = {"server": "forkd.ops.health:Prober", "concurrency": "threads", "stop_timeout": 1.0}


def needed_by(services: Iterable[ServiceSpec]) -> Iterator[ServiceSpec]:
    """Yield the services of forkd's own that these need."""
    if any(spec.healthcheck.http for spec in services):
        yield resolve("healthcheck", _HEALTHCHECK)
