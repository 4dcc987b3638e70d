"""A launcher that is killed: nothing of what it has started stays, whatever it is doing, and its ports are free."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from forkd.config import decode
from forkd.core.spec import ONE_YEAR
from tests.kernel.yard import PATIENCE, alive
from tests.waiting import until

PLAIN = "class S(forkd.Server): pass"
STUCK = """
    class S(forkd.Server):
        def start(self):
            self.service.thread_group.add_timer(3600, self.stick, initial_delay=0.2)
        def stick(self):
            say(os.getpid())
            {how}
"""
ENDLESS = "while True: pass"
IN_C = "9 ** 9 ** 9  # holds the interpreter for ever: no Python code runs any more, nor a signal's handler"


@pytest.fixture
def doomed(yard):
    """Start a launcher of its own on a spec; give it and the pids it says once all is ready."""
    started = []

    def start(spec, scenario="plain"):
        command = [
            sys.executable,
            "-m",
            "tests.kernel.doomed",
            str(yard.folder),
            json.dumps(decode.spec_to(spec)),
            scenario,
        ]
        root = Path(__file__).parent.parent.parent
        launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True)
        started.append(launcher)
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert pids
        return launcher, pids

    yield start
    for launcher in started:
        launcher.stdout.close()


def kill(launcher):
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()


def members(sessions):
    """Give the live processes of these sessions: zygotes lead them, and nobody leaves them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and alive(int(entry)):
            try:
                if os.getsid(int(entry)) in sessions:
                    found.append(int(entry))
            except ProcessLookupError:
                continue
    return found


def until_none(pids):
    until(lambda: not members(pids), PATIENCE, "the end of everything")


def test_nothing_is_left(doomed, yard, concurrency):
    launcher, pids = doomed(yard.spec(PLAIN, concurrency=concurrency))
    kill(launcher)
    until_none(pids)


@pytest.mark.parametrize("how", [ENDLESS, IN_C], ids=["endless", "in C"])
def test_stuck_workers_are_buried(doomed, yard, concurrency, how):
    spec = yard.spec(STUCK.format(how=how), concurrency=concurrency, stop_timeout=0.5)
    launcher, pids = doomed(spec)
    assert {int(yard.line()), int(yard.line())} == set(pids[1:])
    kill(launcher)
    until_none(pids)


@pytest.mark.parametrize("stop_timeout", [30.0, ONE_YEAR])
def test_helpers_of_the_workers_end_too(doomed, yard, stop_timeout):
    source = """
        class S(forkd.Server):
            def start(self):
                subprocess.Popen(["sleep", "1000"])
    """
    launcher, pids = doomed(yard.spec(source, stop_timeout=stop_timeout))
    assert len(members(pids)) >= 5
    kill(launcher)
    until_none(pids)


def test_stuck_workers_of_a_lost_zygote_are_buried_by_the_next(doomed, yard):
    spec = yard.spec(STUCK.format(how=ENDLESS), stop_timeout=0.5)
    launcher, pids = doomed(spec, "zygote lost")
    _, first, second, _, third = pids
    assert {int(yard.line()) for _ in range(3)} == {first, second, third}
    kill(launcher)
    until_none(pids)


@pytest.mark.parametrize("how", ["while True: pass", "signal.pause()", "9 ** 9 ** 9"])
def test_zygote_in_the_middle_of_an_import(doomed, yard, how):
    code = f"say('importing')\n{how}" if "9 **" not in how else "say('importing')\nn = 9\nn ** n ** n"
    launcher, pids = doomed(yard.spec(code), "importing")
    assert yard.line() == "importing"
    kill(launcher)
    until_none(pids)


@pytest.mark.parametrize("count", range(5))
def test_killed_in_the_middle_of_a_fork(doomed, yard, count):
    launcher, pids = doomed(yard.spec("blob = [str(i) for i in range(100_000)]\n" + PLAIN), "forking")
    until(lambda: len(members(pids)) > 3 + count % 2, PATIENCE, "a fork under way")
    kill(launcher)
    until_none(pids)


def test_ports_and_sockets_are_free_again(doomed, yard):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = yard.folder / "shop.sock"
    spec = yard.spec(PLAIN, bind=(f"127.0.0.1:{port}", f"unix:{path}"))
    launcher, pids = doomed(spec)
    kill(launcher)
    until_none(pids)
    socket.create_server(("127.0.0.1", port)).close()
    yard.zygote(spec)  # which replaces the dead socket's file


def test_a_worker_finishes_what_it_has_begun(doomed, yard, concurrency):
    source = """
        class S(forkd.Server):
            def stop(self, graceful=True):
                say("stop", graceful, os.getpid())
                self.service.thread_group.sleep(0.3)
                say("done", os.getpid())
    """
    launcher, pids = doomed(yard.spec(source, concurrency=concurrency))
    kill(launcher)
    said = sorted(yard.line() for _ in range(4))
    assert said == sorted(f"{word} {pid}" for pid in pids[1:] for word in ("stop True", "done"))
    until_none(pids)


LEFTOVERS = [
    'subprocess.Popen(["sleep", "1000"])',
    "if os.fork() == 0: time.sleep(1000)",
    # Its exit function waits for the process.
    "import multiprocessing; multiprocessing.Process(target=time.sleep, args=(1000,)).start()",
]


@pytest.mark.parametrize("leftover", LEFTOVERS, ids=["a program", "a fork", "an awaited fork"])
def test_what_an_import_has_started_ends_after_the_workers(doomed, yard, leftover):
    source = f"""
        import atexit
        {leftover}
        atexit.register(say, "exit function")
        class S(forkd.Server):
            pass
    """
    launcher, pids = doomed(yard.spec(source))
    assert len(members(pids)) >= 4
    kill(launcher)
    assert yard.line() == "exit function"
    until_none(pids)


@pytest.mark.parametrize("leftover", LEFTOVERS[:2], ids=["a program", "a fork"])
def test_what_an_import_has_started_ends_with_it(doomed, yard, leftover):
    source = f"""
        {leftover}
        say("importing")
        time.sleep(1000)
    """
    launcher, pids = doomed(yard.spec(source), "importing")
    assert yard.line() == "importing"
    assert len(members(pids)) == 2
    kill(launcher)
    until_none(pids)


def test_the_children_of_a_worker_that_nobody_has_reaped_end_too(doomed, yard):
    source = """
        class S(forkd.Server):
            def start(self):
                subprocess.Popen(["sleep", "1000"])
    """
    launcher, pids = doomed(yard.spec(source))
    zygote, victim, _ = pids
    launcher.send_signal(signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    until(lambda: not watches(zygote, victim), PATIENCE, "the zygote to notice the death")
    kill(launcher)
    until_none(pids)


def watches(zygote, pid):
    """Tell whether a zygote has a pidfd of a process."""
    for info in Path(f"/proc/{zygote}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if f"Pid:\t{pid}\n" in info.read_text():
                return True
    return False
