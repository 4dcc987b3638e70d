"""The commands as operators and scripts use them: what they print, where, and with which exit code."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

import forkd as package
from tests.functional.installed import COMMAND, Installed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKEN = "raise KeyError('DSN')\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """One launcher for the tests that change nothing."""
    installed = Installed(tmp_path_factory.mktemp("running"))
    installed.configure(
        {
            "web": installed.web(workers=2),
            "adder": {"server": "adder:Adder", "topic": "adder", "concurrency": "threads"},
        }
    )
    installed.start()
    yield installed
    installed.close()


def only_line(text: str) -> str:
    """Return the one line that a command has said."""
    assert text.count("\n") == 1, text
    return text.removesuffix("\n")


def test_version(forkd: Installed) -> None:
    assert forkd.run("--version").stdout == f"forkd {package.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "forkd", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"forkd {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "forkd: a command is missing (see forkd --help)"),
        (["stat"], "forkd: no command is named 'stat'; did you mean 'status'?"),
        (["relaod"], "forkd: no command is named 'relaod'; did you mean 'reload'?"),
        (["xyzzy"], "forkd: no command is named 'xyzzy' (see forkd --help)"),
        (["-c", "x", "start"], "forkd: -c stands after the command, not before it (see forkd --help)"),
        (["call"], "forkd call: the following arguments are required: TOPIC.METHOD (see forkd call --help)"),
        (["call", "adder"], "forkd: expected TOPIC.METHOD, got 'adder'"),
        (["call", "adder.add", "a"], "forkd: expected KEY=VALUE, got 'a'"),
        (["--wait"], "forkd: unrecognized arguments: --wait (see forkd --help)"),
        (["status", "--jsno"], "forkd status: unrecognized arguments: --jsno (see forkd status --help)"),
        (["start"], "forkd start: the following arguments are required: -c/--config (see forkd start --help)"),
        (
            ["scale", "shop", "many"],
            "forkd: expected a number of workers from 0 to 10000, or by how many to change it (+1, -1), got 'many'",
        ),
        (
            ["scale", "shop", "10001"],
            "forkd: expected a number of workers from 0 to 10000, or by how many to change it (+1, -1), got '10001'",
        ),
        (["scale", "shop"], "forkd scale: the following arguments are required: N (see forkd scale --help)"),
        (["signal", "shop/x", "HUP"], "forkd: expected SERVICE or SERVICE/SLOT, such as shop or shop/0, got 'shop/x'"),
        *[([later], f"forkd: {later}: not yet supported") for later in ("top", "logs", "upgrade")],
    ],
)
def test_usage_errors_are_one_line_and_exit_2(forkd: Installed, arguments: list[str], said: str) -> None:
    done = forkd.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert only_line(done.stderr) == said


def test_help_names_every_command_that_works(forkd: Installed) -> None:
    done = forkd.run("--help")
    assert done.returncode == 0
    named = [line.split()[0] for line in done.stdout.partition("commands:")[2].splitlines() if line.startswith("  ")]
    assert named == [
        "start",
        "run",
        "check",
        "schema",
        "status",
        "reload",
        "restart",
        "stop",
        "scale",
        "signal",
        "stacks",
        "events",
        "call",
    ]
    for name in named:
        assert forkd.run(name, "--help").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        *(["status"], ["reload"], ["stop"], ["call", "a.b"], ["status", "--json"], ["events", "-f"]),
        *(["scale", "web", "2"], ["signal", "web", "HUP"], ["stacks", "web"]),
    ],
)
def test_without_a_launcher_they_say_so_and_exit_3(forkd: Installed, arguments: list[str]) -> None:
    done = forkd.run(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    said = only_line(done.stderr)
    assert said.startswith(
        f"forkd: no launcher is running on {forkd.runtime_dir}; start one with `forkd start -c FILE`"
    )


def test_debug_shows_where_an_error_comes_from(forkd: Installed) -> None:
    for arguments in (["status", "--debug"], ["--debug", "status"]):
        done = forkd.run(*arguments)
        assert done.returncode == 3
        assert "Traceback" in done.stderr
        assert "no launcher is running" in done.stderr


def test_the_launcher_is_found_in_every_way(running: Installed) -> None:
    plain = {key: value for key, value in running.environment().items() if key != "FORKD_RUNTIME_DIR"}
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["-c", str(running.config)], {}),
        (["--runtime-dir", str(running.runtime_dir)], {}),
        (["--runtime-dir", str(running.runtime_dir)], {"FORKD_RUNTIME_DIR": "/nowhere"}),
        ([], {"FORKD_RUNTIME_DIR": str(running.runtime_dir), "RUNTIME_DIRECTORY": "/nowhere"}),
        ([], {"RUNTIME_DIRECTORY": str(running.runtime_dir)}),
    ]
    for arguments, environment in ways:
        done = subprocess.run(
            [COMMAND, "status", "--json", *arguments],
            capture_output=True, text=True, env={**plain, **environment}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["forkd"]["pid"] == running.pid


def test_status_is_a_table_with_what_matters(running: Installed) -> None:
    done = running.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\033" not in done.stdout
    head, *rest = done.stdout.splitlines()
    assert head.startswith(f"forkd {package.__version__}, pid {running.pid}: running for ")
    services = {line.split()[0]: line.split()[1:3] for line in rest if line.startswith(("web ", "adder "))}
    assert services == {"web": ["running", "2/2"], "adder": ["running", "1/1"]}
    assert {line.split()[0] for line in rest if "/" in line.split(" ")[0]} == {"web/0", "web/1", "adder/0"}


def test_status_of_one_service(running: Installed) -> None:
    assert [one["name"] for one in json.loads(running.run("status", "web", "--json").stdout)["services"]] == ["web"]
    done = running.run("status", "wbe")
    assert done.returncode == 1
    assert only_line(done.stderr) == "forkd: no service is named 'wbe'; there are: web, adder"


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """Return what a command prints when its stdout is a terminal."""
    upper, lower = pty.openpty()
    fcntl.ioctl(lower, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
    with subprocess.Popen([COMMAND, *arguments], stdout=lower, env=environment) as process:
        os.close(lower)
        shown = b""
        while process.poll() is None or select.select([upper], [], [], 0)[0]:
            try:
                shown += os.read(upper, 65536)
            except OSError:  # EIO: the other side is closed
                break
        process.wait()
    os.close(upper)
    return shown.decode()


def test_colour_is_for_terminals_alone_and_only_where_it_is_wanted(running: Installed) -> None:
    environment = running.environment()
    arguments = ["status", "--runtime-dir", str(running.runtime_dir)]
    assert "\033" not in on_a_terminal(arguments, environment)  # NO_COLOR is set there
    del environment["NO_COLOR"]
    assert "\033[32mrunning\033[0m" in on_a_terminal(arguments, environment)


def test_a_reader_that_has_seen_enough_is_no_error(running: Installed) -> None:
    with subprocess.Popen(
        [COMMAND, "status", "--runtime-dir", str(running.runtime_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=running.environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        process.wait()


def test_call_prints_what_the_method_returns(running: Installed) -> None:
    assert running.run("call", "adder.add", "a=2", "b=3").stdout == "5\n"
    assert running.run("call", "adder.add", "a=[1, two]", "b=[{x: null}]").stdout == "- 1\n- two\n- x: null\n"
    assert running.run("call", "adder.add", "a=one", "b=two").stdout == "onetwo\n"
    assert running.run("call", "adder.add", "a=one", "b=two", "--json").stdout == '"onetwo"\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["adder.fail"], "forkd: adder.fail raised KeyError: "),
        (["adder.nothing"], "nothing"),
        (["nobody.there"], "nobody"),
        (["adder.add", "a=1"], "b"),
    ],
)
def test_a_call_that_fails_is_one_line_and_exit_1(running: Installed, arguments: list[str], said: str) -> None:
    done = running.run("call", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in only_line(done.stderr)


def test_a_call_whose_value_is_no_yaml_is_wrong_usage(forkd: Installed) -> None:
    done = forkd.run("call", "adder.add", "a=[1")
    assert (done.returncode, done.stdout) == (2, "")
    assert only_line(done.stderr).startswith("forkd: a: not valid YAML")


def test_schema_is_json(forkd: Installed) -> None:
    assert "services" in json.loads(forkd.run("schema").stdout)["properties"]


def test_check_finds_what_is_wrong_and_with_import_in_the_code_too(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(), "ticker": {"server": "ticker:Ticker", "args": {"path": "x"}}})
    assert forkd.run("check", "-c", str(forkd.config)).stdout == f"{forkd.config}: no mistakes; services: web, ticker\n"
    assert forkd.run("check", "-c", str(forkd.config), "--import").returncode == 0
    forkd.write("ticker.py", BROKEN)
    assert forkd.run("check", "-c", str(forkd.config)).returncode == 0
    done = forkd.run("check", "-c", str(forkd.config), "--import")
    assert done.returncode == 78
    assert "KeyError: 'DSN'" in done.stderr
    assert "services.ticker" in done.stderr


def test_orders_tell_their_progress_on_stderr_and_end_well(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2), "ticker": {"server": "ticker:Ticker", "args": {"path": "x"}}})
    forkd.start()
    before = forkd.workers()
    done = forkd.run("restart", "web")
    assert (done.returncode, done.stdout) == (0, "")
    assert "web/1: ready, pid" in done.stderr
    assert "ticker" not in done.stderr
    assert not set(forkd.workers()) & set(before)
    done = forkd.run("reload")
    assert (done.returncode, done.stdout) == (0, "")
    assert "ticker/0: ready, pid" in done.stderr
    assert done.stderr.endswith("\nforkd: reload done\n")
    assert forkd.status()["forkd"]["last_reload"]["ok"] is True


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
@pytest.mark.parametrize("verb", ["reload", "restart", "stop"])
def test_an_order_for_a_service_that_does_not_exist_fails_and_is_not_given(
    running: Installed, verb: str, wait: str
) -> None:
    done = running.run(verb, "wbe", wait)
    assert done.returncode == 1
    assert only_line(done.stderr) == f"forkd: {verb} failed: no service is named 'wbe'; there are: web, adder"
    assert running.status()["forkd"]["last_reload"] is None


def test_a_reload_may_name_a_service_that_is_new_in_the_configuration(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    forkd.configure({"web": forkd.web(), "adder": {"server": "adder:Adder", "topic": "adder"}})
    done = forkd.run("reload", "adder")
    assert done.returncode == 0, done.stderr
    assert forkd.service("adder")["state"] == "running"


def test_an_order_by_another_file_is_refused(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    other = forkd.folder / "other.yaml"
    other.write_text(forkd.config.read_text().replace('"web"', '"shop"'))
    done = forkd.run("reload", "-c", str(other))
    assert done.returncode == 1
    assert f"runs {forkd.config}: name that one" in done.stderr
    assert forkd.status()["forkd"]["generation"] == 1
    same = forkd.folder / "same.yaml"
    same.symlink_to(forkd.config)
    assert forkd.run("reload", "-c", str(same)).returncode == 0


def test_a_reload_that_cannot_be_says_why_and_status_too(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    good = forkd.config.read_text()
    forkd.config.write_text(good.replace('"wsgi"', '"wsgj"'))
    for where in ([], ["-c", str(forkd.config)]):
        done = forkd.run("reload", *where)
        assert done.returncode == 1
        assert done.stderr.count("services.web.server") == 1
        assert done.stderr.splitlines()[-1].startswith("forkd: reload failed: ")
    assert "services.web.server" in forkd.status()["forkd"]["last_reload"]["error"]
    assert "services.web.server" in forkd.run("status", "-c", str(forkd.config)).stdout
    forkd.config.write_text(good)
    forkd.write("app.py", BROKEN)
    done = forkd.run("reload")
    assert done.returncode == 1
    assert "KeyError: 'DSN'" in done.stderr.splitlines()[-1]
    assert forkd.get().startswith("one ")
    assert "KeyError: 'DSN'" in forkd.run("status").stdout


def test_the_runtime_directory_cannot_change_in_a_reload(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    forkd.config.write_text(forkd.config.read_text().replace(str(forkd.runtime_dir), str(forkd.folder / "other")))
    done = forkd.run("reload")
    assert done.returncode == 1
    assert "runtime_dir" in done.stderr
    assert forkd.get().startswith("one ")


def test_a_service_that_cannot_start_is_exit_4_and_its_error_is_shown(forkd: Installed) -> None:
    forkd.write("ticker.py", BROKEN)
    forkd.configure({"web": forkd.web(), "ticker": {"server": "ticker:Ticker"}})
    forkd.start(ready=False)
    until(lambda: forkd.service("ticker").get("error"), 30.0, "the error")
    until(lambda: forkd.service("web").get("state") == "running", 30.0, "the other service")
    done = forkd.run("status")
    assert done.returncode == 4
    assert "KeyError: 'DSN'" in done.stdout
    assert forkd.run("status", "web").returncode == 0


def test_no_wait_returns_before_the_end(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    done = forkd.run("reload", "--no-wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: forkd.status()["forkd"]["generation"] == 2, 30.0, "the reload")
    forkd.until_running(2)
    assert forkd.run("stop", "--no-wait").returncode == 0
    assert forkd.wait() == 0


def test_a_client_that_is_killed_while_it_waits_changes_nothing(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    with subprocess.Popen(
        [COMMAND, "reload", "--runtime-dir", str(forkd.runtime_dir)],
        stderr=subprocess.PIPE, text=True, env=forkd.environment(),
    ) as client:  # fmt: skip
        assert client.stderr is not None
        assert "reload started" in client.stderr.readline()
        client.kill()
    forkd.until_running(2)
    assert forkd.get().startswith("one ")


def test_clients_that_hang_do_not_hold_the_launcher_up(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    hanging = []
    for text in (b"", b'{"do": "rel', b'{"do": "status"}\n' * 2000):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(forkd.runtime_dir / "forkd.sock"))
        client.settimeout(10)
        client.sendall(text)
        hanging.append(client)
    assert forkd.run("reload").returncode == 0
    for client in hanging:
        client.close()


def test_a_launcher_that_stands_still_is_told_of_in_time(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    forkd.signal(signal.SIGSTOP)
    try:
        done = forkd.run("status")
    finally:
        forkd.signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "does not answer" in only_line(done.stderr)
    assert forkd.run("status").returncode == 0


def test_stop_quick_does_not_wait_for_what_is_in_flight(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    with socket.create_connection(("127.0.0.1", forkd.port)) as client:
        client.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: forkd.in_flight() == 1, what="a request in flight")
        assert forkd.run("stop", "--quick").returncode == 0
        assert forkd.wait() == 0
        assert client.recv(65536) == b""


def test_run_serves_in_the_foreground_until_a_signal(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(concurrency=concurrency)})
    with subprocess.Popen([COMMAND, "run", "-c", forkd.config, "web"], env=forkd.environment()) as process:
        pid = until(lambda: _answer(forkd), what="an answer").split()[1]
        assert int(pid) == process.pid
        process.terminate()
        assert process.wait(30) == 0


def _answer(forkd: Installed) -> str:
    try:
        return forkd.get()
    except ConnectionRefusedError:
        return ""


def test_run_says_what_is_wrong(forkd: Installed) -> None:
    forkd.write("app.py", BROKEN)
    forkd.configure({"web": forkd.web()})
    done = forkd.run("run", "-c", str(forkd.config), "web")
    assert done.returncode == 1
    assert only_line(done.stderr) == "forkd: KeyError: 'DSN' (--debug shows where)"
    assert "app.py" in forkd.run("run", "-c", str(forkd.config), "web", "--debug").stderr
    done = forkd.run("run", "-c", str(forkd.config), "wbe")
    assert only_line(done.stderr) == f"forkd: no service is named 'wbe' in {forkd.config}; there are: web"


def test_the_launcher_is_the_process_that_was_started_and_small(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    pid = forkd.start().pid
    assert forkd.status()["forkd"]["pid"] == pid
    mapped = pathlib.Path(f"/proc/{pid}/maps").read_text()
    for foreign in ("pydantic", "_yaml", "greenlet", "psutil", "_ssl"):
        assert foreign not in mapped
