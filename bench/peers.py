"""The servers and supervisors that are measured: how each is configured, started and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bench.client import connect, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
COMPILED = ROOT / f"build/compiled-{sys.implementation.cache_tag}"  # forkd, as `build_compiled` leaves it
HEAVY = "bench.apps.heavy:application"

FORKD = """
runtime_dir: {work}/run
services:
  heavy:
    server: wsgi
    app: "{app}"
    bind: "127.0.0.1:{port}"
    workers: {workers}
    concurrency: {concurrency}
    pythonpath: ["{root}"]
    restart: {{healthy_after: 1s}}
"""

SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = {work}/supervisord.log
pidfile = {work}/supervisord.pid
childlogdir = {work}
[unix_http_server]
file = {work}/supervisord.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{work}/supervisord.sock
[program:bare]
command = {python} {root}/bench/apps/bare.py {port}
"""

CIRCUS = """
[circus]
endpoint = ipc://{work}/endpoint
pubsub_endpoint = ipc://{work}/pubsub
[watcher:bare]
cmd = {python} {root}/bench/apps/bare.py {port}
"""


class Peer(NamedTuple):
    """A product in one configuration: its command line, and the text of its configuration file if it has one.

    `rest` is how many seconds it is left alone between two kills, so that each one hits a settled process. `path` is
    where Python looks before it looks into this tree.
    """

    name: str
    command: tuple[str, ...]
    config: str = ""
    rest: float = 1.5
    path: tuple[Path, ...] = ()


class NotServing(Exception):
    """A peer did not come up; its text has what it printed."""


class Running(NamedTuple):
    """A peer that serves: its main process, its port, its directory, the file that the application's version is in."""

    pid: int
    port: int
    work: Path
    version: Path


def forkd(concurrency: str = "eventlet") -> Peer:
    """Return forkd with the heavy application."""
    config = FORKD.replace("{concurrency}", concurrency)
    return Peer(f"forkd, {concurrency}", ("forkd", "start", "--config", "{config}"), config)


def compiled(peer: Peer) -> Peer:
    """Return one of forkd's as a compiled build."""
    config = peer.config.replace('pythonpath: ["', f'pythonpath: ["{COMPILED}", "')
    return peer._replace(name=f"{peer.name}, compiled", config=config, path=(COMPILED,))


def build_compiled() -> None:
    """Have `make` build what those run, unless it is there and nothing has changed since; that takes a minute."""
    subprocess.run(["make", "--silent", "compiled", f"VENV={sys.prefix}", f"COMPILED={COMPILED}"], check=True, cwd=ROOT)


def web() -> list[Peer]:
    """Return all that serve the heavy application."""
    gunicorn = ("gunicorn", "--bind=127.0.0.1:{port}", "--workers={workers}", "--worker-class=gthread", "--threads=8")
    granian = ("granian", "--interface=wsgi", "--port={port}", "--workers={workers}", "--respawn-failed-workers")
    uwsgi = ("uwsgi", "--master", "--die-on-term", "--enable-threads", "--threads=8", "--processes={workers}")
    return [
        forkd(),
        forkd("threads"),
        Peer("gunicorn", (*gunicorn, HEAVY)),
        Peer("gunicorn --preload", (*gunicorn, "--preload", HEAVY)),
        Peer("uWSGI", (*uwsgi, "--http11-socket=127.0.0.1:{port}", "--module", HEAVY)),
        Peer("granian", (*granian, HEAVY), rest=6.5),  # a second crash within 5.5 s ends it
    ]


def processes() -> list[Peer]:
    """Return the supervisors of any process, with the least that serves."""
    return [
        Peer("supervisord (bare process)", ("supervisord", "--configuration", "{config}"), SUPERVISORD, rest=2.5),
        Peer("circus (bare process)", ("circusd", "{config}"), CIRCUS, rest=2.5),
    ]


def measured(
    chosen: Iterable[Peer], workers: int, measure: Callable[[Peer, Running], T], app: str = HEAVY
) -> list[tuple[Peer, T]]:
    """Return what `measure` finds of each peer; one that is not installed or does not serve is told of and left out."""
    found = []
    for peer in chosen:
        try:
            with running(peer, workers, app) as server:
                found.append((peer, measure(peer, server)))
        except (NotServing, FileNotFoundError) as problem:
            print(f"{peer.name}: {problem}", file=sys.stderr)
    return found


@contextlib.contextmanager
def running(peer: Peer, workers: int, app: str = HEAVY) -> Iterator[Running]:
    """Start a peer with an application, yield once it answers over HTTP, and end it with all its processes."""
    with started(peer, app=app, workers=workers) as (process, server):
        _await_answer(process, server.port, server.work)
        yield server


@contextlib.contextmanager
def started(peer: Peer, **words: object) -> Iterator[tuple[subprocess.Popen[bytes], Running]]:
    """Start a peer, its command and configuration filled in with these words, and end it with all its processes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work = Path(name)
        port = _free_port()
        words |= {"work": name, "root": ROOT, "python": sys.executable, "port": port, "config": work / "config"}
        (work / "config").write_text(peer.config.format(**words) if peer.config else "", "utf-8")
        (work / "version").write_text("0", "utf-8")
        argv = [word.format(**words) for word in peer.command]
        path = os.pathsep.join(map(str, (*peer.path, ROOT)))
        environment = {**os.environ, "BENCH_VERSION": str(work / "version"), "PYTHONPATH": path}
        with (work / "output").open("wb") as output:
            # In a session of its own, as forkd's workers are anyway: the kernel shares the processors out by sessions.
            process = subprocess.Popen(
                [BIN / argv[0], *argv[1:]],
                stdout=output,
                stderr=output,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            yield process, Running(process.pid, port, work, work / "version")
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await_answer(process: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with connect(port) as connection:
                fetch(connection, "/")
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"it does not serve:\n{(work / 'output').read_text('utf-8', 'replace')[-3000:]}"
                raise NotServing(message) from None
            time.sleep(0.05)
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        print(f"(process {process.pid} did not stop within 20 s of TERM and was killed)", flush=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def in_path(command: str) -> str:
    """Return the full path of a command of this environment or of the system."""
    return str(BIN / command) if (BIN / command).exists() else shutil.which(command) or command
