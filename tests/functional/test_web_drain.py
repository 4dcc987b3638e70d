"""Whatever becomes of workers, no client of any kind loses a request, but those of a worker that was killed."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.traffic import stage
from tests.traffic.callers import Traffic
from tests.waiting import until
from tests.wsgi.client import Client, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.certificates import Authority
    from tests.functional.installed import Installed


def test_reloads(forkd: Installed, concurrency: str, short_tmp: Path) -> None:
    doors = stage.begin(forkd, short_tmp / "sock", workers=2, concurrency=concurrency)
    with Traffic(*doors) as traffic:
        for _ in range(3):
            stage.reload(forkd)
        traffic.until_more()
    assert len(traffic.workers) >= 8


def test_scaling(forkd: Installed, concurrency: str, short_tmp: Path) -> None:
    doors = stage.begin(forkd, short_tmp / "sock", concurrency=concurrency)
    with Traffic(*doors) as traffic:
        for _ in range(5):
            stage.scale(forkd, "web", 5)
            stage.scale(forkd, "web", 1)
        traffic.until_more()


def test_recycling_of_two_hundred(forkd: Installed, concurrency: str, short_tmp: Path, authority: Authority) -> None:
    recycle = {"requests": 10, "jitter": "50%"}
    doors = stage.begin(forkd, short_tmp / "sock", authority, workers=8, concurrency=concurrency, recycle=recycle)
    with Traffic(*doors) as traffic:
        stage.outlast(traffic, 200)


def test_a_kill_cuts_nobody_elses_requests(forkd: Installed, concurrency: str, short_tmp: Path) -> None:
    """Everything else that a worker was at has its answer, and who comes is served at once."""
    doors = stage.begin(forkd, short_tmp / "sock", workers=3, concurrency=concurrency)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(door.address)) for door in doors for _ in range(12)]
        workers = [client.get("/whole/1/1").headers["x-worker"] for client in clients]
        for client in clients:
            client.send(request("/gated/1/1000"))
            client.head()
        victim = workers[0]
        os.kill(int(victim), signal.SIGKILL)
        for door in doors * 10:
            with Client(door.address) as fresh:
                assert fresh.get("/whole/1/1").status == 200
        (forkd.folder / "go").touch()
        for client, worker in zip(clients, workers, strict=True):
            if worker == victim:
                with pytest.raises((EOFError, ConnectionResetError)):
                    client.chunks()
            else:
                assert len(client.chunks()) == 1000
                assert client.get("/whole/1/1").headers["x-worker"] == worker
    until(lambda: len(forkd.workers()) == 3, 30.0, "a successor")
