"""A forkd that serves traffic over TCP and a Unix socket, and what may be done to its workers meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.traffic.callers import Door
from tests.waiting import until

if TYPE_CHECKING:
    from tests.certificates import Authority
    from tests.functional.installed import Installed
    from tests.traffic.callers import Traffic

ROOT = Path(__file__).parents[2]


def begin(forkd: Installed, sock: Path, authority: Authority | None = None, **keys: Any) -> list[Door]:
    """Start it with a service `web`, over TLS where there is an authority; return where it is to be found."""
    context = None
    if authority is not None:
        keys["tls"] = authority.issue("traffic")._asdict()
        context = authority.client()
    doors = [Door(f"127.0.0.1:{forkd.port}", context), Door(f"unix:{sock}")]
    bind = [door.address for door in doors]
    web = forkd.web(app="tests.traffic.app:application", bind=bind, pythonpath=[str(ROOT)], surge="100%", **keys)
    forkd.configure({"web": web})
    forkd.start()
    return doors


def reload(forkd: Installed) -> None:
    done = forkd.run("reload")
    assert done.returncode == 0, done.stderr


def scale(forkd: Installed, service: str, workers: int) -> None:
    done = forkd.run("scale", service, str(workers))
    assert done.returncode == 0, done.stderr


def outlast(traffic: Traffic, workers: int) -> None:
    """Return when so many more workers have answered; each of them is replaced when it has answered enough."""
    seen = len(traffic.workers)

    def outlasted() -> bool:
        traffic.check()
        return len(traffic.workers) >= seen + workers

    until(outlasted, 90.0, "new workers")
