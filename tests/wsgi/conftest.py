"""Every test of the server runs once per engine, against a process that runs a real Service with that engine."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import until
from tests.wsgi.client import TIMEOUT, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ENGINES = ["eventlet", "threads"]


class Served:
    """A server in a process of its own."""

    def __init__(self, control: socket.socket, log: Path, tls: ssl.SSLContext | None = None) -> None:
        """Take what controls it; `tls` is the context of clients, where it speaks that."""
        self.tls = tls
        self._control = control
        self._lines = control.makefile("r")
        self._log = log
        self.addresses: list[str] = json.loads(self._lines.readline() or self.fail())

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def fail(self) -> str:
        raise AssertionError(self.log())

    def client(self, source: str = "") -> Client:
        return Client(self.address, source, tls=self.tls)

    def get(self, path: str, *headers: str) -> bytes:
        """Return the body of a good answer on a connection of its own."""
        with self.client() as client:
            answer = client.get(path, *headers)
        assert answer.status == 200
        return answer.body

    def log(self) -> str:
        return self._log.read_text()

    def logged(self, text: str) -> str:
        return until(lambda: self.log() if text in self.log() else "", what=f"{text!r} in the log")

    def drain(self) -> None:
        """Begin a graceful stop; return when the listener is closed."""
        self._say("drain")
        until(self.refuses, what="the listener to be closed")

    def drain_all(self) -> None:
        """Begin a graceful stop."""
        self._say("drain")

    def cut(self) -> None:
        self._say("cut")

    def stopped(self) -> None:
        """Return when the service has stopped."""
        self._say("wait")
        assert self._lines.readline() == "stopped\n", self.log()

    def open_gate(self, name: str) -> None:
        """Let those requests go on that wait for a gate, without a request."""
        self._say(f"open {name}")

    def reset(self) -> None:
        """Have the server read anew what it can."""
        self._say("reset")
        assert self._lines.readline() == "reset\n", self.log()

    def cpu_seconds(self) -> float:
        self._say("cpu")
        return float(self._lines.readline())

    @property
    def pid(self) -> int:
        pid, _, _ = struct.unpack("3i", self._control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid

    def memory(self) -> int:
        """Return the bytes that are resident."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def counters(self) -> dict[str, Any]:
        self._say("counters")
        return json.loads(self._lines.readline())

    def refuses(self) -> bool:
        try:
            Client(self.address).sock.close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it was queued when the listener was closed
            return False
        return False

    def end(self) -> None:
        try:
            self._say("end")
        except BrokenPipeError:
            print(self.log())
        self._lines.close()
        self._control.close()

    def _say(self, line: str) -> None:
        self._control.sendall(line.encode() + b"\n")


class Host:
    """The process of one engine that servers are forked from."""

    def __init__(self, engine: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.wsgi.host", engine],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "forked\n"

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="session")
def hosts() -> Iterator[dict[str, Host]]:
    found: dict[str, Host] = {}
    yield found
    for host in found.values():
        host.close()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request) -> str:
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a module's tests run over TLS too, where it says so by `TRANSPORTS`."""
    transports = getattr(metafunc.module, "TRANSPORTS", None)
    given = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
    if transports and "transport" in metafunc.fixturenames and "transport" not in given:
        metafunc.parametrize("transport", transports, indirect=True, scope="session")


@pytest.fixture(scope="session")
def transport(request) -> str:
    """What the ports speak: `plain` or `tls`."""
    return str(getattr(request, "param", "plain"))


@pytest.fixture(scope="session")
def start(engine, transport, hosts, tmp_path_factory, request) -> Callable[..., Served]:
    """Return a function that starts a server; who calls it ends it."""
    tls: dict[str, Any] = {}
    context: ssl.SSLContext | None = None
    if transport == "tls":
        tls = {"tls": request.getfixturevalue("pair")._asdict()}
        context = request.getfixturevalue("authority").client()

    def start(app: str = "by_path", **order: Any) -> Served:
        order["options"] = {**tls, **order.get("options", {})}
        host = hosts.get(engine) or hosts.setdefault(engine, Host(engine))
        folder = tmp_path_factory.mktemp("wsgi")
        defaults = {
            "bind": "127.0.0.1:0",
            "service": {},
            "stop_timeout": 30,
            "nofile": 0,
            "shorter": {},
            "share": False,
            "private": "",
            "level": "INFO",
        }
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{folder}")
            listener.listen()
            listener.settimeout(TIMEOUT)
            ends = {"app": app, "control": f"\0{folder}", "log": str(folder / "log"), "validate": app == "by_path"}
            host.fork(defaults | ends | order)
            control, _ = listener.accept()
        control.settimeout(60)
        return Served(control, folder / "log", context)

    return start


@pytest.fixture
def serve(start) -> Iterator[Callable[..., Served]]:
    """Yield a function that starts a server for this test alone."""
    started: list[Served] = []

    def serve(*args: Any, **order: Any) -> Served:
        started.append(start(*args, **order))
        return started[-1]

    yield serve
    for served in started:
        served.end()


@pytest.fixture(scope="session")
def served(start) -> Iterator[Served]:
    """Yield a server with default options, for all tests that change nothing of it; it waits for slow clients."""
    found = start(options={"keepalive_timeout": 60.0, "header_timeout": 60.0})
    yield found
    found.end()


@pytest.fixture
def client(served) -> Iterator[Client]:
    with served.client() as client:
        yield client
