"""`forkd start` brings up what services.yaml says, once, and can be found again."""

from __future__ import annotations

import os
import pathlib
import pwd
import signal
import socket

from tests.functional.installed import Installed
from tests.waiting import until


def test_three_kinds_of_service_come_up(forkd: Installed, concurrency: str) -> None:
    ticks = forkd.folder / "ticks"
    forkd.configure(
        {
            "web": forkd.web(workers=2),
            "adder": {"server": "adder:Adder", "topic": "adder", "workers": 2},
            "ticker": {"server": "ticker:Ticker", "args": {"path": str(ticks)}},
        },
        defaults={"concurrency": concurrency},
    )
    status = forkd.start().status()
    assert forkd.get().startswith("one ")
    assert forkd.run("call", "adder.add", "a=2", "b=3").stdout.strip() == "5"
    until(lambda: ticks.exists() and ticks.read_text().count("tick") >= 3, what="three ticks")
    assert [(s["name"], s["wanted"], s["ready"]) for s in status["services"]] == [
        ("web", 2, 2), ("adder", 2, 2), ("ticker", 1, 1),
    ]  # fmt: skip


def test_status_has_every_field_that_is_promised(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start().get()
    status = forkd.status()
    assert set(status["forkd"]) == {"version", "pid", "state", "uptime", "config", "generation", "last_reload"}
    assert status["forkd"]["pid"] == forkd.pid
    web = status["services"][0]
    assert set(web) == {
        "name", "state", "generation", "wanted", "ready", "restarts", "listen", "zygote_pid", "error", "workers",
    }  # fmt: skip
    worker = web["workers"][0]
    assert set(worker) == {
        "id", "slot", "pid", "phase", "generation", "uptime", "restarts", "heartbeat_age", "requests", "in_flight",
        "errors", "rss", "pss", "cpu", "cpu_seconds", "fds", "threads", "last_exit",
    }  # fmt: skip
    assert worker["requests"] == 1
    assert worker["rss"] > worker["pss"] > 0
    assert worker["heartbeat_age"] < 5


def test_processes_bear_their_titles(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    web = forkd.start().service()
    titles = {pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in forkd.left()}
    assert titles == {
        "forkd: launcher [services.yaml]", "forkd: web zygote gen 1", "forkd: web/0 gen 1", "forkd: web/1 gen 1",
    }  # fmt: skip
    assert web["zygote_pid"] in forkd.left()


def test_workers_are_children_of_the_launcher_and_lead_groups_of_their_own(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    for pid in forkd.start().workers():
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) == forkd.pid
        assert os.getpgid(pid) == pid


def test_a_second_start_on_the_same_runtime_directory_is_refused(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    second = forkd.run("start", "--config", str(forkd.config))
    assert second.returncode == 1
    assert str(forkd.pid) in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert forkd.get().startswith("one ")
    assert (forkd.runtime_dir / "forkd.pid").read_text().strip() == str(forkd.pid)


def test_a_stale_socket_after_a_crash_is_taken_over(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(), "adder": {"server": "adder:Adder", "topic": "adder"}})
    forkd.start()
    forkd.signal(signal.SIGKILL)
    forkd.wait()
    assert (forkd.runtime_dir / "forkd.sock").exists()
    assert forkd.run("status").returncode == 3
    until(lambda: not forkd.left(), what="nothing left")
    forkd.start()
    assert forkd.run("call", "adder.add", "a=2", "b=3").stdout.strip() == "5"


def test_the_control_socket_is_the_operators_alone(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    assert (forkd.runtime_dir / "forkd.sock").stat().st_mode & 0o777 == 0o600


def test_a_port_that_is_taken_is_an_error_that_heals(forkd: Installed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", forkd.port))
        taken.listen()
        forkd.configure({"web": forkd.web(), "ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
        forkd.start(ready=False)
        error = until(lambda: forkd.service().get("error"), what="the error in the status")
        assert f"127.0.0.1:{forkd.port}" in error
        assert forkd.service("ticker")["state"] == "running"
    forkd.until_running()
    assert forkd.get().startswith("one ")


def test_without_preload_each_worker_imports_for_itself(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", "import os\nPID = os.getpid()\n" + (forkd.folder / "app.py").read_text().replace(
        'f"{VERSION} {os.getpid()}"', 'f"{PID == os.getpid()}"'))  # fmt: skip
    forkd.configure({"web": forkd.web(preload=False, concurrency=concurrency)})
    forkd.start()
    assert forkd.get() == "True"


def test_privileges_are_dropped_before_the_code_is_imported(forkd: Installed) -> None:
    if os.getuid() != 0:
        return  # only root has privileges to drop; everybody else is refused, which the configuration's tests show
    forkd.folder.chmod(0o755)
    forkd.write("app.py", "import os\nIMPORTED = (os.getuid(), os.getgid(), os.getgroups())\n"
                + (forkd.folder / "app.py").read_text().replace('f"{VERSION} {os.getpid()}"', 'f"{IMPORTED} {os.getuid()}"'))  # fmt: skip
    parent = forkd.folder
    while parent != pathlib.Path("/tmp"):  # noqa: S108 -- pytest's own folders are closed to others
        parent.chmod(parent.stat().st_mode | 0o055)
        parent = parent.parent
    forkd.configure({"web": forkd.web(user="nobody", umask="027")})
    forkd.start()
    nobody = pwd.getpwnam("nobody")
    assert forkd.get() == f"({nobody.pw_uid}, {nobody.pw_gid}, [{nobody.pw_gid}]) {nobody.pw_uid}"
