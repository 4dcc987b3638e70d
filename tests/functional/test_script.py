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

from forkd import ProcessLauncher, Server, Service
from forkd.errors import ForkdError
from tests.functional.installed import catches, living_in
from tests.ports import Ports
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

PROLOGUE = """
import atexit, multiprocessing, os, signal, sys, threading
import forkd
from forkd import errors

launcher = forkd.ProcessLauncher()

def launch(server):
    launcher.launch_service(forkd.Service(server, concurrency="threads"))
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
    until(lambda: catches(script.process.pid, signal.SIGTERM), what="the script in wait()")
    yield script
    with contextlib.suppress(ProcessLookupError):
        script.process.terminate()
    script.process.wait(30)
    assert script.process.stdout is not None
    script.process.stdout.close()
    script.ports.close()
    until(lambda: not living_in(tmp_path), what="nothing left")


def run(folder: pathlib.Path, script: str) -> list[str]:
    """Return the lines that a script has written by its end; nothing of it may be left then."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    (folder / "script.py").write_text(PROLOGUE + script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env={**plain, "FORKD_RUNTIME_DIR": str(folder / "run")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    until(lambda: not living_in(folder), what="nothing left")
    return done.stdout.splitlines()


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


def test_a_second_term_stops_at_once(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
class Slow(forkd.Server):
    def stop(self, graceful=True):
        if graceful:
            os.kill(script, signal.SIGTERM)
            self.service.thread_group.sleep(1000)

script = os.getpid()
signal.signal(signal.SIGTERM, lambda *_: launcher.stop())  # for those that come before the wait
launch(Slow())
threading.Thread(target=os.kill, args=(script, signal.SIGTERM)).start()
launcher.wait()
""")  # fmt: skip
    assert said == []


def test_a_script_keeps_what_is_its_own(tmp_path: pathlib.Path) -> None:
    """Output that it has buffered, functions for its exit, a child that multiprocessing would end at such an exit."""
    said = run(tmp_path, """
def be_child():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    started.set()
    over.wait()
    os._exit(5)

started, over = multiprocessing.Event(), multiprocessing.Event()
child = multiprocessing.Process(target=be_child, daemon=True)
child.start()
started.wait()
atexit.register(print, "exit")
sys.stdout.write("buffered\\n")
launch(forkd.Server())
launcher.stop()
launcher.wait()
over.set()
child.join()
print(child.exitcode)
""")  # fmt: skip
    assert said == ["buffered", "5", "exit"]


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, os.WNOHANG)"])
def test_a_script_may_reap_as_it_likes(tmp_path: pathlib.Path, handler: str) -> None:
    said = run(tmp_path, f"""
signal.signal(signal.SIGCHLD, {handler})
for _ in range(2):
    launch(forkd.Server())
    launcher.stop()
    launcher.wait()
    print("over")
""")  # fmt: skip
    assert said == ["over", "over"]


def test_other_threads_wait_and_stop_and_leave_the_signals_alone(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
signal.signal(signal.SIGTERM, lambda *_: launcher.stop())
launch(forkd.Server())
waiting = threading.Thread(target=launcher.wait)
waiting.start()
os.kill(os.getpid(), signal.SIGTERM)
waiting.join()
print("over")
""")  # fmt: skip
    assert said == ["over"]


def test_services_of_both_concurrencies_go_together(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
class Tells(forkd.Server):
    def start(self):
        print(self.service.name, self.service.worker.slot, self.service.concurrency, flush=True)

for name, concurrency in (("first", "threads"), ("second", "eventlet"), ("third", "threads")):
    launcher.launch_service(forkd.Service(Tells(), name=name, concurrency=concurrency), workers=2)
    print(name, "is ready", flush=True)
launcher.stop()
launcher.wait()
""")  # fmt: skip
    for name, engine in (("first", "threads"), ("second", "eventlet"), ("third", "threads")):
        three, said = said[:3], said[3:]
        assert {*three[:2]} == {f"{name} 0 {engine}", f"{name} 1 {engine}"}
        assert three[2] == f"{name} is ready"


def test_a_launcher_that_is_killed_during_a_start_is_told(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
class Killer(forkd.Server):
    def start(self):
        os.kill(os.getppid(), signal.SIGKILL)

try:
    launch(Killer())
except errors.ForkdError as error:
    print(error)
""")  # fmt: skip
    assert said == ["service Killer: its launcher was killed"]


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers: int) -> None:
    with pytest.raises(ForkdError, match=f"workers: expected at least 1, got {workers}"):
        ProcessLauncher().launch_service(Service(Server()), workers=workers)


def test_a_script_that_has_threads_is_not_forked(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
over = threading.Event()
threading.Thread(target=over.wait).start()
try:
    launch(forkd.Server())
except errors.ForkdError as error:
    print(error)
over.set()
""")  # fmt: skip
    assert said == ["a process that has threads cannot be forked: launch services before threads are made"]


def test_what_a_server_of_ones_own_calls_bind_and_topic_is_its_affair(tmp_path: pathlib.Path) -> None:
    said = run(tmp_path, """
class Own(forkd.Server):
    topic = "of conversation"

    def bind(self):
        "Bind books."

launch(Own())
launcher.stop()
launcher.wait()
print("over")
""")  # fmt: skip
    assert said == ["over"]
