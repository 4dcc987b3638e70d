"""A launcher killed outright leaves nothing behind, and its port can be bound again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

from tests.functional.installed import Installed
from tests.waiting import until


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def test_nothing_is_left_after_the_launcher_is_killed(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=3, concurrency=concurrency)})
    forkd.start()
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")
    until(lambda: _bindable(forkd.port), what="the port free")


def test_a_request_in_flight_is_finished_first(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(forkd.get("/held")))
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="a request in flight")
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: _bindable(forkd.port), what="the port free")
    (forkd.folder / "go").touch()
    thread.join()
    assert answers[0].startswith("one ")
    until(lambda: not forkd.left(), what="nothing left")


def test_a_worker_in_an_endless_loop_is_buried_too(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=2, stop_timeout=0.5, concurrency=concurrency)})
    forkd.start()
    thread = threading.Thread(target=_spin, args=(forkd,))
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="the loop under way")
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")
    until(lambda: _bindable(forkd.port), what="the port free")
    thread.join()


def test_a_zygote_that_replaced_a_dead_one_buries_its_workers_too(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=0.5, restart={"healthy_after": 0})})
    service = forkd.start().service()
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until(lambda: forkd.service()["zygote_pid"] not in (None, service["zygote_pid"]), what="a new zygote")
    forkd.until_running()
    until(lambda: "forkd: web undertaker" not in forkd.titles(), what="the guard gone, which was there meanwhile")
    thread = threading.Thread(target=_spin, args=(forkd,))
    thread.start()
    until(lambda: forkd.in_flight() == 1, what="the loop under way")
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")
    thread.join()


def _spin(forkd: Installed) -> None:
    with contextlib.suppress(OSError):
        forkd.get("/spin", timeout=30)


def test_a_zygote_that_is_still_importing_does_not_keep_stuck_workers_alive(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=0.5)})
    service = forkd.start().service()
    forkd.write("app.py", "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
                "open('importing', 'w').close()\nwhile True:\n    time.sleep(60)\n")  # fmt: skip
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until((forkd.folder / "importing").exists, what="the successor importing")
    os.kill(service["workers"][0]["pid"], signal.SIGSTOP)
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")


def test_a_stuck_worker_is_buried_while_its_service_has_no_zygote(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=0.5, restart={"delay": 60, "max_delay": 60, "healthy_after": 60})})
    service = forkd.start().service()
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until(lambda: forkd.service()["zygote_pid"] is None, what="the zygote's end in the status")
    until(lambda: "forkd: web undertaker" in forkd.titles(), what="a guard")
    os.kill(service["workers"][0]["pid"], signal.SIGSTOP)
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")
    until(lambda: _bindable(forkd.port), what="the port free")


def test_a_guard_lets_clients_go_and_ends_with_its_last_worker(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(restart={"delay": 60, "max_delay": 60, "healthy_after": 60})})
    service = forkd.start().service()
    os.kill(service["zygote_pid"], signal.SIGKILL)
    until(lambda: "forkd: web undertaker" in forkd.titles(), what="a guard")
    assert forkd.run("stop", "web").returncode == 0
    until(lambda: len(forkd.titles()) == 1, what="the launcher alone")
    assert forkd.run("stop").returncode == 0
    assert forkd.wait() == 0


def test_a_zygote_that_somebody_has_stopped_buries_its_workers_too(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(stop_timeout=0.5)})
    service = forkd.start().service()
    for pid in (service["workers"][0]["pid"], service["zygote_pid"]):
        os.kill(pid, signal.SIGSTOP)
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")


def test_killed_in_the_middle_of_a_start(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=8)})
    forkd.start(ready=False)
    until(lambda: len(forkd.left()) > 3, what="some workers")
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    until(lambda: not forkd.left(), what="nothing left")


PARENT = """
import forkd, subprocess

class Parent(forkd.Server):
    def __init__(self, command, own_session):
        self.popen = {"args": command, "start_new_session": own_session}

    def start(self):
        super().start()
        subprocess.Popen(**self.popen)
"""


def _start_parent(forkd: Installed, command: list[str], *, own_session: bool) -> None:
    forkd.write("parent.py", PARENT)
    args = {"command": command, "own_session": own_session}
    forkd.configure({"parent": {"server": "parent:Parent", "args": args, "concurrency": "threads"}})
    forkd.start()


def test_a_workers_own_children_die_with_it(forkd: Installed) -> None:
    _start_parent(forkd, ["sleep", "1000"], own_session=False)
    assert len(forkd.titles()) == 4
    assert forkd.run("restart").returncode == 0
    until(lambda: len(forkd.titles()) == 4, what="the old helper gone")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert forkd.left() == []


def test_what_has_left_its_workers_group_dies_with_the_launcher_and_not_before(forkd: Installed) -> None:
    def strays() -> int:
        return sum(title.startswith("sleep") for title in forkd.titles())

    script = "trap '' TERM HUP; sleep 1001 & sleep 1002 & wait"
    _start_parent(forkd, ["sh", "-c", script], own_session=True)
    until(lambda: strays() == 2, what="the strays")
    (worker,) = forkd.workers("parent")
    os.kill(worker, signal.SIGKILL)
    until(lambda: forkd.workers("parent") not in ([], [worker]), what="a new worker")
    until(lambda: strays() == 4, what="the strays of both workers")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    assert forkd.left() == []
