"""The child that reads: its answers, its bounds, and what its caller makes of its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from forkd import config
from forkd.config import __main__ as reader
from forkd.config import default_runtime_dir, outcome, reader_command
from forkd.errors import ConfigError, ForkdError
from tests.waiting import until

GOOD = "services: {a: {server: 'shop:Shop', args: {name: ü}}}\n"
HEAVY = {"argparse", "asyncio", "dataclasses", "inspect", "logging", "pydantic", "subprocess", "threading", "yaml"}


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*reader_command(arguments[0]), *arguments[1:]], capture_output=True, timeout=60, check=False)


def test_a_good_file(folder):
    path = folder.write(GOOD)
    done = run(path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["config"]["services"][0]["args"] == {"name": "ü"}
    assert outcome(done.stdout, 0) == config.read(path)


def test_a_bad_file(folder):
    path = folder.write("servces: {}")
    done = run(path)
    assert (done.returncode, done.stderr) == (78, b"")
    problems = [f'{path}:1:1: servces: unknown key; did you mean "services"?']
    assert json.loads(done.stdout) == {"problems": problems}
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert caught.value.problems == problems


@pytest.mark.parametrize("name", ["--import", "-x", "no such\nfile"])
def test_a_file_with_a_strange_name(name):
    done = run(name)
    assert done.returncode == 78
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.endswith("cannot read: no such file or directory")


def test_a_reader_without_a_file_says_how_it_is_used():
    done = subprocess.run([sys.executable, "-P", "-m", "forkd.config"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == b"usage: python -P -m forkd.config FILE [--import]\n"


def test_it_ends_by_its_alarm_however_its_caller_left_signals(folder):
    path = folder.write(GOOD)
    code = (
        "import signal, sys\n"
        "from forkd.config import __main__ as reader\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "reader.SECONDS = 1\n"
        "reader.load = lambda path: signal.pause()\n"
        "reader.main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM


def test_memory_has_a_bound(folder, monkeypatch):
    path = folder.write(GOOD)
    code = (
        "import sys\n"
        "from forkd.config import __main__ as reader\n"
        "reader.load = lambda path: bytearray(2 << 30)\n"
        "sys.exit(reader.main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, timeout=60, check=False)
    assert done.returncode == 78
    assert json.loads(done.stdout) == {"problems": [f"{path}: needs more memory than reading may take, 1 GiB"]}


def test_an_answer_too_large_to_be_given(folder):
    path = folder.write(GOOD)
    code = (
        "import sys\n"
        "from forkd.config import __main__ as reader\n"
        "reader.LARGEST_ANSWER = 100\n"
        "sys.exit(reader.main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, timeout=60, check=False)
    assert done.returncode == 78
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem.startswith(f"{path}: too large: its services take ")


@pytest.mark.parametrize(
    ("output", "code", "problem"),
    [
        (b"", -signal.SIGKILL, "its reader was killed by signal 9"),
        (b"{}", 1, "its reader failed with exit code 1"),
        (b"", 0, "its reader gave no answer that makes sense"),
        (b"\xff", 0, "its reader gave no answer that makes sense"),
        (b"{}", 0, "its reader gave no answer that makes sense"),
        (b"[]", 78, "its reader gave no answer that makes sense"),
        (b'{"problems": 3}', 78, "its reader gave no answer that makes sense"),
        (b'{"config": {"runtime_dir": "/", "services": [3]}}', 0, "its reader gave no answer that makes sense"),
        (b"[" * 100_000, 0, "its reader gave no answer that makes sense"),
    ],
)
def test_an_answer_that_is_none(output, code, problem):
    with pytest.raises(ForkdError) as caught:
        outcome(output, code)
    assert not isinstance(caught.value, ConfigError)  # of the configuration it says nothing
    assert str(caught.value) == f"cannot read the configuration: {problem}"


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGXCPU])
def test_a_configuration_that_takes_too_long_to_read_is_a_bad_one(number):
    with pytest.raises(ConfigError) as caught:
        outcome(b"", -number)
    assert caught.value.problems == ["cannot read the configuration: its reader took longer than 30 s"]


def test_a_reader_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ForkdError) as caught:
        config.read("services.yaml")
    assert not isinstance(caught.value, ConfigError)
    assert str(caught.value) == "services.yaml: cannot start its reader: No such file or directory"


def test_nothing_is_left_when_the_caller_is_interrupted(folder, monkeypatch):
    started: list[int] = []
    spawn = os.posix_spawn

    def record(*args, **kwargs):
        started.append(spawn(*args, **kwargs))
        return started[-1]

    def interrupt(*_args):
        raise KeyboardInterrupt

    path = folder.write(GOOD)
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_spawn", record)
    monkeypatch.setattr(os, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        config.read(path)
    until(lambda: not os.path.exists(f"/proc/{started[0]}"), what="the reader's end")
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_caller_stays_light():
    code = "import sys, forkd.config, forkd.config.decode, forkd.config.runtime_dir; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True, text=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & HEAVY


def test_the_default_runtime_directory_is_of_this_user():
    assert default_runtime_dir() in ("/run/forkd", f"/tmp/forkd-{os.geteuid()}")


def test_limits_are_given_back_before_code_is_imported():
    code = (
        "import resource, sys\n"
        "from forkd.config import __main__ as reader\n"
        "before = [resource.getrlimit(limit) for limit in reader._LIMITS]\n"
        "reader._unbound(reader._bound())\n"
        "assert [resource.getrlimit(limit) for limit in reader._LIMITS] == before\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
    assert reader.MOST_MEMORY == 1 << 30
