"""The installed `forkd` command as users run it: one launcher in a folder of its own, and clients for what it serves."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from forkd.control.client import Client
from forkd.errors import NotRunning
from tests.ports import Ports
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = pathlib.Path(sys.executable).parent / "forkd"

APP = """
import os, time
VERSION = "one"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/held":
        while not os.path.exists("go"):
            time.sleep(0.01)
    if path == "/spin":
        while True:
            pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{VERSION} {os.getpid()}".encode()]
"""

# Put before an app: its import says that it has begun, and waits.
GATED = """
import os, time
open("importing", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
"""

TICKER = """
import forkd

class Ticker(forkd.Server):
    def __init__(self, path):
        self.path = path

    @forkd.periodic_task(spacing=0.05, run_immediately=True)
    def tick(self):
        with open(self.path, "a") as file:
            file.write("tick\\n")
"""

ADDER = """
import os
from forkd import rpc

class Adder(rpc.Server):
    def add(self, a, b):
        return a + b

    def pid(self):
        return os.getpid()

    def fail(self):
        raise KeyError("nothing here")
"""


def alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie that PID 1 has not reaped yet is dead."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def catches(pid: int, signum: int) -> bool:
    """Tell whether the process has a handler for the signal."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) >> (signum - 1) & 1)


def living_in(folder: pathlib.Path) -> list[int]:
    """Return the living processes whose working directory is the folder.

    Not by an environment variable: a process that names itself writes its title over its environment.
    """
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == folder and alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def described(pid: int) -> str:
    """Return what the kernel tells of a process: what it calls itself, its state and signals, what it waits for."""
    found = []
    for name in ("cmdline", "wchan", "status"):
        with contextlib.suppress(OSError):  # it has ended
            found.append(pathlib.Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\0", " "))
    return "\n".join(found)


def memory(pid: int) -> bytes:
    """Return what stands in the writable memory of a process."""
    found = b""
    with pathlib.Path(f"/proc/{pid}/mem").open("rb", 0) as file:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            first, last, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if rights.startswith("rw"):
                file.seek(int(first, 16))
                found += file.read(int(last, 16) - int(first, 16))
    return found


def can_be_run_by(user: str) -> bool:
    """Tell whether the user may run this interpreter: one below /root is root's alone."""
    probe = [sys.executable, "-c", "import forkd"]
    try:
        return subprocess.run(probe, user=user, group="nogroup", check=False, capture_output=True).returncode == 0
    except PermissionError:
        return False


class Installed:
    """A folder with a services.yaml and the code it names; `start` runs `forkd start` on it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.config = folder / "services.yaml"
        self.runtime_dir = folder / "run"
        self.ports = Ports()
        self.port = self.ports.take()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        self.write("app.py", APP)
        self.write("ticker.py", TICKER)
        self.write("adder.py", ADDER)

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder, in one step."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        # Python trusts a cached .pyc whose source has the same second and size.
        for cached in (self.folder / "__pycache__").glob(f"{name.removesuffix('.py')}.*"):
            cached.unlink()
        new.rename(self.folder / name)

    def configure(self, services: dict[str, dict[str, Any]], **top: Any) -> None:
        """Write services.yaml; JSON is YAML."""
        for keys in services.values():
            keys.setdefault("directory", str(self.folder))
        self.config.write_text(json.dumps({"runtime_dir": str(self.runtime_dir), "services": services, **top}))

    def web(self, **keys: Any) -> dict[str, Any]:
        """Return a WSGI service of the folder's app on the test's port."""
        return {"server": "wsgi", "app": "app:application", "bind": [f"127.0.0.1:{self.port}"], **keys}

    def environment(self) -> dict[str, str]:
        """Return the environment that the command runs in."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "NOTIFY", "WATCHDOG"))}
        return {**plain, "NO_COLOR": "1"}

    def start(self, *more: str, ready: bool = True, under: Sequence[str] = ()) -> Self:
        """Start the launcher, by the command `under` if there is one, and wait until every service is as wanted."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, COMMAND, "start", "--config", self.config, *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), cwd=self.folder, process_group=0,
            )  # fmt: skip
        if ready:
            self.until_running()
        return self

    @property
    def pid(self) -> int:
        """The launcher's pid."""
        assert self.process is not None
        return self.process.pid

    def run(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a forkd command on this launcher."""
        return subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder,
            env={**self.environment(), "FORKD_RUNTIME_DIR": str(self.runtime_dir)},
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Return the launcher's picture of itself, empty while none answers; as `forkd status` gets it."""
        try:
            with Client(str(self.runtime_dir)) as client:
                return client.status()
        except NotRunning:
            return {}

    def service(self, name: str = "web") -> dict[str, Any]:
        """Return the status of one service, empty when there is none."""
        return next((s for s in self.status().get("services", []) if s["name"] == name), {})

    def in_flight(self) -> int:
        """Return how many requests the workers of the service `web` are at."""
        return sum(worker["in_flight"] for worker in self.service()["workers"])

    def workers(self, name: str = "web") -> list[int]:
        """Return the pids of the ready workers of a service."""
        return [w["pid"] for w in self.service(name).get("workers", []) if w["phase"] == "ready"]

    def until_running(self, generation: int | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the launcher and every service are `running` (at a generation); return the status."""

        def running() -> dict[str, Any]:
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            status = self.status()
            states = [s["state"] for s in status.get("services", [])] + [status.get("forkd", {}).get("state")]
            reached = generation is None or status.get("forkd", {}).get("generation", 0) >= generation
            return status if reached and set(states) == {"running"} else {}

        return until(running, timeout, "every service running")

    def signal(self, signum: int) -> None:
        """Signal the launcher."""
        os.kill(self.pid, signum)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the launcher's end; return its exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def left(self) -> list[int]:
        """Return what is alive of this launcher, itself included."""
        return living_in(self.folder)

    def titles(self) -> list[str]:
        """Return how the living processes name themselves, but for the spares that zygotes keep."""
        lines = []
        for pid in self.left():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                lines.append(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
        names = [line.rstrip(b"\0").replace(b"\0", b" ").decode() for line in lines]
        return sorted(name for name in names if " spare " not in name)

    def close(self) -> None:
        """Stop what the test left running; nothing may survive a TERM."""
        self.ports.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(AssertionError):
            until(lambda: not self.left(), 10.0)
        left = {pid: described(pid) for pid in self.left()}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}\n{self.log.read_text()}"

    def get(self, path: str = "/", timeout: float = 10.0) -> str:
        """Return the body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def connect(port: int, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return a client of a port of this machine, which connects when it is first used."""
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=15, context=tls)


class Load:
    """A client that asks without pause until it is stopped, counting answers and keeping every failure."""

    def __init__(self, port: int, *, keep_alive: bool, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.tls = tls
        self.keep_alive = keep_alive
        self.answers = 0
        self.connections = 0
        self.bodies: set[str] = set()
        self.failures: list[str] = []
        self.slowest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        connection = connect(self.port, self.tls)
        headers = {} if self.keep_alive else {"Connection": "close"}
        while not self._over.is_set():
            started = time.monotonic()
            self.connections += connection.sock is None
            try:
                connection.request("GET", "/", headers=headers)
                response = connection.getresponse()
                self.bodies.add(response.read().decode())
                assert response.status == 200, response.status
                self.answers += 1
            except Exception as error:  # noqa: BLE001 -- every failure counts, whatever it is
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
            self.slowest = max(self.slowest, time.monotonic() - started)
        connection.close()


@contextlib.contextmanager
def loads(port: int, tls: ssl.SSLContext | None = None) -> Iterator[tuple[Load, Load]]:
    """Run a keep-alive and a non-keep-alive client; each has an answer before the test goes on."""
    with Load(port, keep_alive=True, tls=tls) as first, Load(port, keep_alive=False, tls=tls) as second:
        until(lambda: first.answers and second.answers, what="an answer to each client")
        yield first, second
