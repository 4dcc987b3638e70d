"""Tests that take `engine` run once per engine, each in a process of its own that is prepared for that engine alone.

Monkey-patching is for good and for the whole process, so pytest's own process cannot do it. For each engine there is
one host process (`engine_host.py`), which forks for every test and reports how it ended, as output and exit status.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class Host:
    """The process of one engine, started by the first test that needs it."""

    def __init__(self, engine: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.library.engine_host", engine],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, order: dict[str, object]) -> int:
        """Run one test; return the exit status of its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)


@pytest.fixture(scope="session")
def hosts() -> Iterator[dict[str, Host]]:
    """Yield the hosts that have been started, by engine."""
    found: dict[str, Host] = {}
    yield found
    for host in found.values():
        host.close()


@pytest.fixture
def engine_output(tmp_path_factory) -> Path:
    """Return where the test's own process writes what it prints."""
    return Path(tmp_path_factory.mktemp("engine")) / "output"


@pytest.fixture(params=["eventlet", "threads"])
def engine(request, engine_output) -> str:
    """Return the engine that the test runs with."""
    return str(request.param)


@pytest.fixture(autouse=True)
def engine_host(request) -> Host | None:
    """Return the host of the test's engine, for those tests that have one."""
    if "engine" not in request.fixturenames:
        return None
    engine: str = request.getfixturevalue("engine")
    hosts: dict[str, Host] = request.getfixturevalue("hosts")
    if engine not in hosts:
        hosts[engine] = Host(engine)
    return hosts[engine]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Send a test that takes `engine` to its host; its other arguments are directories and strings."""
    if "engine" not in pyfuncitem._fixtureinfo.argnames:
        return None
    arguments = {name: str(pyfuncitem.funcargs[name]) for name in pyfuncitem._fixtureinfo.argnames}
    output = cast("Path", pyfuncitem.funcargs["engine_output"])
    host = cast("Host", pyfuncitem.funcargs["engine_host"])
    order = {
        "module": pyfuncitem.function.__module__,
        "function": pyfuncitem.originalname,
        "arguments": arguments,
        "output": str(output),
    }
    status = host.run(order)
    if status != 0:
        pytest.fail(f"exit status {status}\n{output.read_text('utf-8', 'replace')}", pytrace=False)
    return True
