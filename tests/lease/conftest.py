"""Both backends, each a real server of this session's own, and both engines, as the tests of the library have them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional.conftest import concurrency, forkd
from tests.lease.backends import KINDS, Postgresql, Redis, Server
from tests.library.conftest import engine, engine_host, engine_output, hosts, pytest_pyfunc_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["concurrency", "engine", "engine_host", "engine_output", "forkd", "hosts", "pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[..., Redis | Postgresql]]:
    """Yield what starts a server of a kind, once for all tests that change nothing of it."""
    started: dict[str, Redis | Postgresql] = {}

    def get(kind: str) -> Redis | Postgresql:
        if kind not in started:
            started[kind] = KINDS[kind](Path(tempfile.mkdtemp(prefix="fkd-", dir="/tmp")))
            started[kind].start()
        return started[kind]

    yield get
    for server in started.values():
        remove(server)


@pytest.fixture(params=list(KINDS))
def kind(request) -> str:
    """Each kind of backend, one after the other."""
    return str(request.param)


@pytest.fixture
def server(kind, servers) -> Redis | Postgresql:
    """Return a server that others use, too."""
    return servers(kind)


@pytest.fixture
def url(server) -> str:
    """Return what `lease` says of it."""
    return str(server.url)


@pytest.fixture
def own(kind, short_tmp) -> Iterator[Redis | Postgresql]:
    """Yield a server of the test's own, which has been started."""
    server = KINDS[kind](short_tmp)
    server.start()
    yield server
    server.stop()


def remove(server: Server) -> None:
    """Stop a server for good."""
    server.stop()
    shutil.rmtree(server.folder)
