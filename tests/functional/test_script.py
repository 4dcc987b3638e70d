"""`ProcessLauncher` in a script of the user's own: live Service objects in worker processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import Ports, living_in
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import os, signal, subprocess, sys
import forkd
from forkd import errors, wsgi

class Resetting(forkd.Server):
    def start(self):
        subprocess.Popen(["sleep", "1000"], start_new_session=True)

    def reset(self):
        open(f"reset-{os.getpid()}", "w").close()

class Broken(forkd.Server):
    def start(self):
        raise KeyError("DSN")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

own = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
before = signal.getsignal(signal.SIGTERM)
engine, port = sys.argv[1:]
launcher = forkd.ProcessLauncher()
web = forkd.Service(wsgi.Server(application, f"127.0.0.1:{port}"), name="web", concurrency=engine)
launcher.launch_service(web, workers=2)
launcher.launch_service(forkd.Service(Resetting(), name="resetting", concurrency=engine))
try:
    launcher.launch_service(forkd.Service(Broken(), name="broken", concurrency=engine))
except errors.ForkdError as error:
    print(error, flush=True)
print("launched", flush=True)
launcher.wait()
assert signal.getsignal(signal.SIGTERM) is before
print("over, own child:", own.wait(), flush=True)
"""


class Script:
    """The script, running in a folder of its own."""

    def __init__(self, folder: pathlib.Path, engine: str) -> None:
        self.folder, self.ports = folder, Ports()
        self.port = self.ports.take()
        (folder / "script.py").write_text(SCRIPT)
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "script.py", engine, str(self.port)], cwd=folder, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "FORKD_RUNTIME_DIR": str(folder / "run")}, stderr=log,
            )  # fmt: skip

    def line(self) -> str:
        """Return the script's next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def titled(self, part: str) -> list[int]:
        """Return the pids of the living processes with this in their title."""
        found = []
        for pid in living_in(self.folder):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                if part in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return found


@pytest.fixture
def script(tmp_path: pathlib.Path, concurrency: str) -> Iterator[Script]:
    """The script, launched; at its end nothing of it may be left."""
    script = Script(tmp_path, concurrency)
    assert script.line() == "service broken: worker 0 failed to start: KeyError: 'DSN'", (tmp_path / "log").read_text()
    assert script.line() == "launched"
    until(lambda: _catches(script.process.pid, signal.SIGTERM), what="the script in wait()")
    yield script
    with contextlib.suppress(ProcessLookupError):
        script.process.terminate()
    script.process.wait(30)
    assert script.process.stdout is not None
    script.process.stdout.close()
    script.ports.close()
    until(lambda: not living_in(tmp_path), what="nothing left")


def _catches(pid: int, signum: int) -> bool:
    """Tell whether the process has a handler for the signal."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1]
    return bool(int(caught, 16) >> (signum - 1) & 1)


def _ask(script: Script) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", script.port, timeout=10)) as connection:
        connection.request("GET", "/", headers={"Connection": "close"})
        return int(connection.getresponse().read())


def test_workers_serve_and_are_replaced(script: Script) -> None:
    victim = _ask(script)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(script.titled("forkd: web/")) == 2 and victim not in script.titled("web/"), what="a replacement")
    assert _ask(script) != victim


def test_term_stops_all_and_the_script_goes_on(script: Script) -> None:
    script.process.send_signal(signal.SIGTERM)
    assert script.line() == "over, own child: 7"
    assert script.process.wait(30) == 0
    assert living_in(script.folder) == []


def test_hup_resets_the_workers_in_place(script: Script) -> None:
    (worker,) = script.titled("forkd: resetting/")
    script.process.send_signal(signal.SIGHUP)
    until((script.folder / f"reset-{worker}").exists, what="reset() called")
    assert script.titled("forkd: resetting/") == [worker]


def test_a_script_that_is_killed_leaves_nothing(script: Script) -> None:
    script.process.kill()
    script.process.wait()
    until(lambda: not living_in(script.folder), what="nothing left")


THREADED = """
import threading
import forkd
from forkd import errors

over = threading.Event()
threading.Thread(target=over.wait).start()
try:
    forkd.ProcessLauncher().launch_service(forkd.Service(forkd.Server(), concurrency="threads"))
except errors.ForkdError as error:
    print(error)
over.set()
"""


def test_a_script_that_has_threads_is_not_forked() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=True)
    assert done.stdout == "a process that has threads cannot be forked: launch services before threads are made\n"
