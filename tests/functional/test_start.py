"""`forkd start` brings up what services.yaml says, once, and can be found again."""

from __future__ import annotations

import grp
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.functional.installed import APP, COMMAND, Installed, can_be_run_by
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
    status = json.loads(forkd.run("status", "--json").stdout)
    assert set(status["forkd"]) == {"version", "pid", "state", "uptime", "config", "generation", "last_reload"}
    assert status["forkd"]["pid"] == forkd.pid
    web = status["services"][0]
    assert set(web) == {
        "name", "state", "generation", "wanted", "ready", "restarts", "listen", "zygote_pid", "error", "workers",
        "totals",
    }  # fmt: skip
    worker = web["workers"][0]
    assert set(worker) == {
        "id", "slot", "pid", "phase", "generation", "uptime", "restarts", "heartbeat_age", "requests", "in_flight",
        "errors", "rss", "pss", "cpu", "cpu_seconds", "fds", "threads", "last_exit", "tasks", "health",
    }  # fmt: skip
    assert worker["requests"] == 1
    assert worker["rss"] > worker["pss"] > 0
    assert worker["heartbeat_age"] < 5


def test_processes_bear_their_titles(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    web = forkd.start().service()
    assert web["zygote_pid"] in forkd.left()
    assert forkd.titles() == [
        "forkd: launcher [services.yaml]", "forkd: web zygote gen 1", "forkd: web/0 gen 1", "forkd: web/1 gen 1",
    ]  # fmt: skip


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


def test_without_its_socket_the_launcher_heeds_signals_alone(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    (forkd.runtime_dir / "forkd.sock").unlink()
    assert forkd.run("status").returncode == 3
    os.kill(int((forkd.runtime_dir / "forkd.pid").read_text()), signal.SIGTERM)
    assert forkd.wait() == 0


def test_a_port_that_is_taken_is_an_error_that_heals(forkd: Installed) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", forkd.port))
        taken.listen()
        forkd.configure({"web": forkd.web(), "ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
        forkd.start(ready=False)
        error = until(lambda: forkd.service().get("error"), what="the error in the status")
        assert f"127.0.0.1:{forkd.port}" in error
        until(lambda: forkd.service("ticker")["state"] == "running", what="the other service")
    forkd.until_running()
    assert forkd.get().startswith("one ")


def test_a_default_timeout_of_the_services_code_is_for_its_own_sockets(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", "import socket\nsocket.setdefaulttimeout(60)\n" + APP)
    forkd.configure({"web": forkd.web(concurrency=concurrency, start_timeout=20)})
    forkd.start()
    assert forkd.get().startswith("one ")
    assert forkd.run("restart", "web").returncode == 0
    started = time.monotonic()
    assert forkd.run("stop").returncode == 0
    assert time.monotonic() - started < 15
    assert "rehearsal" not in forkd.log.read_text()


def test_without_preload_each_worker_imports_for_itself(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", "import os\nPID = os.getpid()\n" + (forkd.folder / "app.py").read_text().replace(
        'f"{VERSION} {os.getpid()}"', 'f"{PID == os.getpid()}"'))  # fmt: skip
    forkd.configure({"web": forkd.web(preload=False, concurrency=concurrency)})
    forkd.start()
    assert forkd.get() == "True"


@pytest.mark.skipif(os.getuid() != 0, reason="only root has privileges to drop")
def test_privileges_are_dropped_before_the_code_is_imported(public: Installed) -> None:
    facts = "import os\nIMPORTED = f'{os.getuid()} {os.getgid()}'\nassert os.getgroups() == [os.getgid()]\n"
    public.write("app.py", facts + APP.replace("{VERSION} {os.getpid()}", "{IMPORTED} {os.getuid()} {os.umask(0o027)}"))
    user = "nobody" if can_be_run_by("nobody") else "root"
    public.configure({"web": public.web(user=user, group="nogroup", umask="027")})
    public.start()
    uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam("nogroup").gr_gid
    assert public.get() == f"{uid} {gid} {uid} {0o027}"


def test_a_start_with_support_for_perf_serves(forkd: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPERFSUPPORT", "1")  # by which each process of Python 3.12 and later writes a file
    there = pathlib.Path("/tmp")
    before = set(there.glob("perf-*.map"))
    forkd.configure({"web": forkd.web()})
    try:
        forkd.start()
        assert forkd.get().startswith("one ")
        assert (there / f"perf-{forkd.workers()[0]}.map").exists() == (sys.version_info >= (3, 12))
        forkd.signal(signal.SIGTERM)
        assert forkd.wait() == 0
    finally:
        for file in set(there.glob("perf-*.map")) - before:
            file.unlink()


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-"])
def test_a_start_with_closed_standard_descriptors_serves(forkd: Installed, closed: str) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" start --config "$1" {closed}', COMMAND, str(forkd.config)],
        env=forkd.environment(), cwd=forkd.folder,
    )  # fmt: skip
    forkd.until_running()
    assert os.readlink(f"/proc/{forkd.pid}/fd/2") == "/dev/null"
    assert forkd.get().startswith("one ")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
