"""What operators do to workers while they serve: scale, signal, and see what an order has come to."""

from __future__ import annotations

import os
import pathlib
import pty
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import APP, COMMAND, Installed
from tests.functional.test_commands import only_line
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Says in a file that a signal came: USR1 by itself, in the worker that got it.
HEARS = """
import signal
signal.signal(signal.SIGUSR1, lambda number, frame: open(f"heard-{os.getpid()}", "w").close())
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """One launcher for the tests that leave it as many workers as they found."""
    installed = Installed(tmp_path_factory.mktemp("operators"))
    installed.write("app.py", APP)
    installed.configure({"web": installed.web(workers=2)})
    installed.start()
    yield installed
    installed.close()


def on_a_terminal(forkd: Installed, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """Run a command whose stderr is a terminal; give it, and the terminal's other side."""
    upper, lower = pty.openpty()
    environment = {**forkd.environment(), "FORKD_RUNTIME_DIR": str(forkd.runtime_dir), "TERM": "xterm"}
    process = subprocess.Popen([COMMAND, *arguments], stderr=lower, env=environment)
    os.close(lower)
    return process, upper


def shown(upper: int) -> str:
    """Return all that a terminal has been sent, to its end."""
    text = b""
    try:
        while data := os.read(upper, 65536):
            text += data
    except OSError:  # EIO: the other side is closed
        os.close(upper)
    return text.decode()


def test_scale_up_and_down_waits_until_it_is_so(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    before = forkd.start().workers()
    for operand, count in (("5", 5), ("3", 3), ("+1", 4), ("-2", 2)):
        done = forkd.run("scale", "web", operand)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr.splitlines()[-1] == "forkd: scale done"
        assert (forkd.service()["wanted"], len(forkd.workers())) == (count, count)
    assert forkd.workers() == before
    assert forkd.run("scale", "web", "0").returncode == 0
    assert forkd.workers() == []
    assert forkd.run("scale", "web", "1").returncode == 0
    assert forkd.get().startswith("one ")


def test_a_reload_brings_back_what_the_configuration_says(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=1)})
    forkd.start()
    assert forkd.run("scale", "web", "3").returncode == 0
    assert forkd.run("restart", "web").returncode == 0
    assert len(forkd.workers()) == 3
    assert forkd.run("reload").returncode == 0
    assert len(forkd.workers()) == 1


def test_a_signal_that_cannot_be_heeded_is_told_in_the_log(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(), "other": forkd.web(bind=["unix:other.sock"])})
    forkd.start()
    forkd.signal(signal.SIGTTIN)
    said = "WARNING launcher: refused to scale: there are 2 services: name the one to scale"
    until(lambda: said in forkd.log.read_text(), what="the refusal")


def test_a_stopped_service_is_not_scaled(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    assert forkd.run("stop", "web").returncode == 0
    done = forkd.run("scale", "web", "3")
    assert (done.returncode, only_line(done.stderr)) == (1, "forkd: scale failed: web is stopped: restart it first")


def test_a_signal_reaches_all_workers_or_the_one_of_a_slot(forkd: Installed) -> None:
    forkd.write("app.py", APP + HEARS)
    forkd.configure({"web": forkd.web(workers=2)})
    first, second = forkd.start().workers()
    heard = [forkd.folder / f"heard-{pid}" for pid in (first, second)]
    done = forkd.run("signal", "web/1", "USR1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(heard[1].exists, what="the signal")
    assert not heard[0].exists()
    assert forkd.run("signal", "web", "sigusr1").returncode == 0
    until(heard[0].exists, what="the other's signal")
    assert forkd.workers() == [first, second]


def test_a_worker_that_is_killed_or_stopped_by_its_operator(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    first, second = forkd.start().workers()
    assert forkd.run("signal", "web/0", str(int(signal.SIGSTOP))).returncode == 0
    until(lambda: state(first) == "T", what="a worker that stands still")
    assert forkd.run("signal", "web/0", "CONT").returncode == 0
    until(lambda: state(first) != "T", what="a worker that goes on")
    assert forkd.run("signal", "web/0", "KILL").returncode == 0
    until(lambda: len({*forkd.workers()} - {first}) == 2, what="its successor")
    assert second in forkd.workers()


def state(pid: int) -> str:
    """Return the letter that /proc has for what a process does."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["signal", "wbe", "HUP"], 1, "forkd: signal failed: no service is named 'wbe'; there are: web"),
        (["signal", "web/2", "HUP"], 1, "forkd: signal failed: no worker is web/2; there are: web/0, web/1"),
        (["stacks", "web/2"], 1, "forkd: stacks failed: no worker is web/2; there are: web/0, web/1"),
        (["scale", "wbe", "1"], 1, "forkd: scale failed: no service is named 'wbe'; there are: web"),
        (["signal", "web", "USR3"], 2, "forkd: no signal is named 'USR3'; there are: HUP, INT, QUIT, "),
        (["signal", "web", "65"], 2, "forkd: no signal is named '65'; there are: HUP, INT, QUIT, "),
    ],
)
def test_what_there_is_not_is_named_beside_what_there_is(
    running: Installed, arguments: list[str], code: int, said: str
) -> None:
    before = running.workers()
    done = running.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert only_line(done.stderr).startswith(said)
    assert running.workers() == before


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("command", "code"), [("restart web", 0), ("scale wbe 1", 1), ("check -c /nowhere", 78), ("start -c /nowhere", 78)]
)
def test_where_nobody_can_be_told_all_is_done_and_ends_as_ever(
    running: Installed, stderr: str, command: str, code: int
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" {command} {stderr}', COMMAND],
        check=False, stdout=subprocess.PIPE,
        env={**running.environment(), "FORKD_RUNTIME_DIR": str(running.runtime_dir)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, b"")
    assert len(running.workers()) == 2


def test_with_stdout_closed_the_exit_code_tells_the_status(running: Installed) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" status --runtime-dir "$1" >&-', COMMAND, running.runtime_dir],
        check=False, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_order_outlives_the_terminal_that_it_was_given_on(running: Installed) -> None:
    process, upper = on_a_terminal(running, "restart", "web")
    os.close(upper)
    assert process.wait(30) == 0
    assert len(running.workers()) == 2


def test_on_a_terminal_one_line_changes_until_the_end(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    forkd.start()
    for arguments, steps in (
        (["restart", "web"], ["web: 1 of 2 workers replaced", "web: 2 of 2 workers replaced", "forkd: restart done"]),
        (["scale", "web", "3"], ["web: 3 workers ready, 3 wanted", "forkd: scale done"]),
        (["reload"], ["web: 1 of 2 workers replaced", "web: 2 of 2 workers replaced", "forkd: reload done"]),
        (["stop", "web"], ["web: 1 of 2 workers stopped", "web: 2 of 2 workers stopped", "forkd: stop done"]),
        (["restart"], ["web: 2 of 2 workers replaced", "forkd: restart done"]),
        (["stop"], ["web: 2 of 2 workers stopped", "forkd: stop done"]),
    ):
        process, upper = on_a_terminal(forkd, *arguments)
        text = shown(upper)
        assert process.wait(30) == 0
        places = [text.find(step) for step in steps]
        assert -1 not in places, text
        assert places == sorted(places), text
        assert text.count("\n") == 1  # the last one stays, what was before it is overwritten
    assert forkd.wait() == 0


def test_on_a_terminal_what_goes_wrong_stays(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    forkd.start()
    forkd.write("app.py", "raise KeyError('DSN')\n")
    process, upper = on_a_terminal(forkd, "reload")
    text = shown(upper)
    assert process.wait(30) == 1
    assert "web: rolled back to generation 1" in text
    assert text.splitlines()[-1].endswith("forkd: reload failed: web: import failed: KeyError: 'DSN'")


def test_an_interrupt_ends_the_waiting_and_says_that_the_order_goes_on(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    forkd.write("app.py", "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n" + APP)
    with subprocess.Popen(
        [COMMAND, "reload", "--runtime-dir", str(forkd.runtime_dir)],
        stderr=subprocess.PIPE, text=True, env=forkd.environment(),
    ) as client:  # fmt: skip
        assert client.stderr is not None
        assert "reload started" in client.stderr.readline()
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130
        said = client.stderr.read()
    assert said.splitlines()[-1] == "forkd: interrupted: the reload goes on; `forkd status` shows how"
    forkd.write("go", "")
    forkd.until_running(2)
