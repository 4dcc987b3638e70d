"""The base of everything that a Service serves; it opens nothing and starts no thread by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forkd.periodic import PeriodicTasks, Sharing

if TYPE_CHECKING:
    from forkd.service import Service


class Server(PeriodicTasks):
    """What a service's workers run: subclass it, and give it `@periodic_task` methods, a socket, a queue or a loop.

    The service calls `init`, `start`, later `stop`, and `wait` at the end; `service` is set by `init`. It can be tested
    with no process around it.
    """

    service: Service | None = None

    def init(self, service: Service) -> None:
        """Get ready in `service`: spawn the periodic tasks' timers from its thread group.

        A subclass that extends it calls `super().init(service)`, and opens here what it listens on.
        """
        self.service = service
        worker = service.worker
        holder = "/".join(map(str, worker or (os.uname().nodename, service.name, f"pid {os.getpid()}")))
        sharing = Sharing(service.name, service.name if worker else None, service.lease, holder)
        self.start_periodic_tasks(service.thread_group, service.board, sharing)

    def start(self) -> None:
        """Begin to serve and return; loops run in threads of `self.service.thread_group`."""

    def stop(self, graceful: bool = True) -> None:
        """Close the intake. Graceful: return when what is in flight is finished, else give it up and return at once.

        Timers and threads of the service are still alive meanwhile; the service stops them afterwards. When a
        graceful stop takes too long, it is called again with `graceful=False`, from another thread.
        """

    def wait(self) -> None:
        """Return when nothing is served any more; `Service.wait` calls it once the service has stopped."""

    def reset(self) -> None:
        """Re-read what may have changed outside (certificates, log files, tuning) without a restart; called on HUP."""

    def reopen(self) -> None:
        """Open log files anew, which somebody has renamed to begin others; called on USR1."""
