"""`forkd start --daemonize`: a launcher in the background, and what whoever started it is told."""

from __future__ import annotations

import os
import pathlib
import pty
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import COMMAND, GATED, Installed, alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def background(forkd: Installed) -> Iterator[Installed]:
    """An installed forkd whose launcher is nobody's child, and is stopped all the same."""
    yield forkd
    if forkd.status():
        assert forkd.run("stop").returncode == 0


def daemonize(forkd: Installed, *more: str) -> subprocess.Popen[bytes]:
    """Start a launcher in the background, its log in a file."""
    with forkd.log.open("ab") as log:
        return subprocess.Popen(
            [COMMAND, "start", "--daemonize", "-c", forkd.config, *more],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=forkd.environment(), cwd=forkd.folder,
        )  # fmt: skip


def launcher(forkd: Installed) -> int:
    """Return the pid that the launcher has written into its runtime directory."""
    return int((forkd.runtime_dir / "forkd.pid").read_text())


def test_it_returns_when_all_is_ready_and_the_launcher_stays(background: Installed) -> None:
    background.configure({"web": background.web(workers=2)})
    background.write("app.py", GATED + (background.folder / "app.py").read_text())
    starter = daemonize(background)
    until((background.folder / "importing").exists, what="the import")
    assert starter.poll() is None
    background.write("go", "")
    assert starter.wait(30) == 0
    pid = launcher(background)
    assert background.status()["forkd"]["pid"] == pid
    assert len(background.workers()) == 2
    assert f"forkd: pid {pid}, running: 1 of 1 services as wanted, 2 workers ready\n" in background.log.read_text()


def test_it_has_left_its_terminal_and_session_and_kept_its_log(background: Installed) -> None:
    background.configure({"web": background.web()})
    assert daemonize(background).wait(30) == 0
    pid = launcher(background)
    assert os.getsid(pid) == pid
    descriptors = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
    assert descriptors == ["/dev/null", str(background.log), str(background.log)]
    assert pathlib.Path(f"/proc/{pid}/cwd").readlink() == background.folder
    assert b"NOTIFY_SOCKET" not in pathlib.Path(f"/proc/{background.workers()[0]}/environ").read_bytes()
    assert background.run("reload").returncode == 0
    assert "launcher: reload done" in background.log.read_text()


def test_a_terminal_is_told_what_becomes_of_the_log_and_is_let_go(background: Installed) -> None:
    background.configure({"web": background.web()})
    upper, lower = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "start", "--daemonize", "-c", background.config],
        stdin=lower, stdout=lower, stderr=lower, env=background.environment(), cwd=background.folder,
    ) as starter:  # fmt: skip
        os.close(lower)
        assert starter.wait(30) == 0
    said = os.read(upper, 65536).decode()
    assert "goes nowhere now; to keep it, start with 2>>FILE" in said
    for pid in (launcher(background), *background.workers(), background.service()["zygote_pid"]):
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    with pytest.raises(OSError, match="Input/output error"):  # nobody has the other side open
        os.read(upper, 1)
    os.close(upper)


def test_what_prevents_a_start_is_said_on_the_terminal(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(server="wsgj")})
    upper, lower = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "start", "--daemonize", "-c", forkd.config], stderr=lower, env=forkd.environment()
    ) as starter:
        os.close(lower)
        assert starter.wait(30) == 78
    assert "services.web.server" in os.read(upper, 65536).decode()
    os.close(upper)


def test_a_second_one_fails_and_says_who_is_there(background: Installed) -> None:
    background.configure({"web": background.web()})
    assert daemonize(background).wait(30) == 0
    done = background.run("start", "--daemonize", "-c", str(background.config))
    assert done.returncode == 1
    assert f"a launcher is already running on {background.runtime_dir} (pid {launcher(background)})" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_cannot_start_is_told_and_keeps_nobody_waiting(background: Installed) -> None:
    background.write("ticker.py", "raise KeyError('DSN')\n")
    background.configure({"web": background.web(), "ticker": {"server": "ticker:Ticker"}})
    assert daemonize(background).wait(30) == 0
    said = background.log.read_text()
    assert "running: 1 of 2 services as wanted, 1 workers ready; ticker backoff" in said
    assert background.get().startswith("one ")


def test_a_full_disk_below_its_log_is_no_failure(background: Installed) -> None:
    background.configure({"web": background.web()})
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "start", "--daemonize", "-c", background.config],
            check=False, stderr=full, env=background.environment(), cwd=background.folder,
        )  # fmt: skip
    assert done.returncode == 0
    assert background.get().startswith("one ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_the_launcher(forkd: Installed, number: signal.Signals) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.write("app.py", GATED)
    starter = daemonize(forkd)
    until((forkd.folder / "importing").exists, what="the import")
    pid = launcher(forkd)
    starter.send_signal(number)
    assert starter.wait(30) == 130
    until(lambda: not alive(pid), what="the launcher's end")


def test_a_launcher_that_is_killed_before_it_is_ready_is_told_of(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.write("app.py", GATED)
    starter = daemonize(forkd)
    until((forkd.folder / "importing").exists, what="the import")
    os.kill(launcher(forkd), signal.SIGKILL)
    assert starter.wait(30) == 1
    assert forkd.log.read_text().endswith("forkd: the launcher was stopped before it was ready, by signal 9\n")
