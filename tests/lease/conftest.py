"""Both backends, each a real server of this session's own, and both engines, as the tests of the library have them."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional.conftest import concurrency, forkd
from tests.lease.backends import KINDS, Postgresql, Redis
from tests.library.conftest import engine, engine_host, engine_output, hosts, pytest_pyfunc_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["concurrency", "engine", "engine_host", "engine_output", "forkd", "hosts", "pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[..., Redis | Postgresql]]:
    """Yield what starts a server of a kind, once for all tests that change nothing of it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def get(kind: str) -> Redis | Postgresql:
            server = KINDS[kind](Path(tempfile.mkdtemp(prefix="fkd-", dir="/tmp")))
            stack.enter_context(server)
            return server

        yield get


@pytest.fixture(params=list(KINDS))
def kind(request) -> str:
    """Each kind of backend, one after the other."""
    return str(request.param)


@pytest.fixture
def server(kind, servers) -> Iterator[Redis | Postgresql]:
    """Yield a server that others use, too; whoever stops it has it started again."""
    server = servers(kind)
    yield server
    if server.process is None:
        server.start()


@pytest.fixture
def url(server) -> str:
    """Return what `lease` says of it."""
    return str(server.url)
