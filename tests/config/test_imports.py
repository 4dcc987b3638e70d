"""`--import`: each service's code in an interpreter of its own, and why it could not be imported."""

from __future__ import annotations

import os
import subprocess

import pytest

from forkd import config
from forkd.errors import ConfigError
from tests.waiting import until

HEAD = "defaults: {start_timeout: 30s, concurrency: threads, pythonpath: [code]}\nservices:\n  shop:\n"


@pytest.fixture
def checked(folder):
    """Return what `--import` says of the lines of a service and the module `shop`."""

    def problems(lines: str, module: str = "") -> list[str]:
        folder.write(module, "code/shop.py")
        path = folder.write(HEAD + "".join(f"    {line}\n" for line in lines.splitlines()))
        try:
            config.read(path, check_imports=True)
        except ConfigError as error:
            return [line.replace(f"{folder.path}/", "") for line in error.problems]
        return []

    return problems


SERVER = "import forkd\nclass Shop(forkd.Server):\n    pass\n"


def test_all_is_well(checked):
    assert checked("server: shop:Shop", SERVER) == []


def test_under_eventlet_too(checked):
    module = SERVER + "import socket\nassert socket.socket.__module__.startswith('eventlet')\nprint('hello')\n"
    assert checked("server: shop:Shop\nconcurrency: eventlet", module) == []


def test_a_module_that_is_not_there(checked):
    (problem,) = checked("server: shoop:Shop", SERVER)
    assert problem.startswith("services.yaml:4:13: services.shop.server: no module named 'shoop': ")


def test_arguments_that_the_constructor_does_not_take(checked):
    (problem,) = checked("server: shop:Shop\nargs:\n  days: 30", SERVER)
    assert problem.startswith("services.yaml:6:7: services.shop.args: 'shop:Shop': ")
    assert "unexpected keyword argument 'days'" in problem


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os\nos.environ['DSN']", "KeyError: 'DSN'"),
        ("def :", "SyntaxError: invalid syntax (shop.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import os\nos._exit(5)", "its interpreter ended with code 5 and did not say why"),
        ("import os\nos.kill(os.getpid(), 9)", "its interpreter was killed by SIGKILL"),
        ("import sys\nsys.stdout.close()\nraise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_code_that_fails(checked, module, error):
    assert checked("server: shop:Shop", module) == [f"services.yaml:4:13: services.shop.server: cannot import: {error}"]


def test_the_place_is_that_of_the_application(checked):
    (problem,) = checked("server: wsgi\nbind: 127.0.0.1:0\napp: nothing.there:application")
    assert problem.startswith("services.yaml:6:10: services.shop.app: no module named 'nothing': ")


def test_it_runs_where_the_service_would(checked, folder):
    (folder.path / "here").mkdir()
    module = SERVER + "import os\nassert (os.getcwd(), os.environ['A']) == (os.environ['HERE'], 'a')\n"
    lines = f"server: shop:Shop\ndirectory: here\nenvironment: {{A: a, HERE: {folder.path}/here}}"
    assert checked(lines, module) == []


@pytest.mark.parametrize("program", ["no program", "#!/bin/sh\nexit 0", "#!/bin/sh\ncat >/dev/null; echo 0"])
def test_an_interpreter_that_does_not_run_this_forkd(checked, folder, program):
    folder.write(program, "python")
    (folder.path / "python").chmod(0o755)
    (problem,) = checked("server: shop:Shop\npython: python", SERVER)
    assert problem.startswith("services.yaml:4:13: services.shop.server: cannot import: python does not run forkd")


def test_its_time_is_bounded_and_its_children_die_with_it(checked, folder):
    pidfile = folder.path / "pid"
    module = (
        "import subprocess\n"
        f"child = subprocess.Popen(['sleep', '600'])\nopen({str(pidfile)!r}, 'w').write(str(child.pid))\nchild.wait()"
    )
    assert checked("server: shop:Shop\nstart_timeout: 2s", module) == [
        "services.yaml:4:13: services.shop.server: cannot import: not done within start_timeout, which is 2s"
    ]
    pid = int(pidfile.read_text())
    until(lambda: is_dead(pid), what="the end of what the import has started")


def test_what_an_import_leaves_running_holds_nothing_up(checked):
    module = SERVER + "import subprocess, threading, time\nsubprocess.Popen(['sleep', '600'])\n"
    module += "threading.Thread(target=threading.Event().wait).start()\n"
    assert checked("server: shop:Shop", module) == []


def test_every_service_is_tried(checked, folder):
    folder.write("raise ValueError('second')", "code/other.py")
    problems = checked("server: shop:Shop\n" + "", "raise ValueError('first')")
    assert len(problems) == 1
    path = folder.write(f"{HEAD}    server: shop:Shop\n  other:\n    server: other:Other\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path, check_imports=True)
    assert [line.rpartition(": ")[2] for line in caught.value.problems] == ["first", "second"]


@pytest.mark.parametrize(
    "mistake",
    [
        "worker: 3",
        "workers: four",
        "no_new_privileges: true",
        "restart: {delay: 2m, max_delay: 1m}",
        "transport: local",
    ],
)
def test_a_service_with_a_mistake_is_not_imported(checked, folder, mistake):
    module = f"open({str(folder.path / 'ran')!r}, 'w')\n"
    assert len(checked(f"server: shop:Shop\n{mistake}", module)) == 1
    assert not (folder.path / "ran").exists()


def test_a_mistake_in_the_defaults_may_concern_every_service(folder):
    folder.write(f"open({str(folder.path / 'ran')!r}, 'w')\n", "code/shop.py")
    path = folder.write(HEAD.replace("start_timeout", "strat_timeout") + "    server: shop:Shop\n")
    with pytest.raises(ConfigError, match="strat_timeout"):
        config.read(path, check_imports=True)
    assert not (folder.path / "ran").exists()


def test_a_mistake_in_the_lease_concerns_every_service_that_gets_it(folder):
    folder.write("1 / 0\n", "code/shop.py")
    web = "    server: shop:Shop\n  web: {server: wsgi, bind: '127.0.0.1:0', app: 'shop:app'}\n"
    path = folder.write(f"{HEAD}{web}lease: redis://cache/zero\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path, check_imports=True)
    assert [line.removeprefix(f"{path}:").split(": ")[1] for line in caught.value.problems] == [
        "services.web.app",
        "lease",
    ]


def test_mistakes_and_failed_imports_are_told_together_by_place(folder):
    folder.write("raise ValueError('first')", "code/shop.py")
    folder.write("raise ValueError('last')", "code/other.py")
    services = "    server: shop:Shop\n  broken:\n    server: shop:Shop\n    workers: four\n  other:\n    server: other:Other\n"
    path = folder.write(f"{HEAD}{services}colour: red\n")
    with pytest.raises(ConfigError) as caught:
        config.read(path, check_imports=True)
    assert [line.removeprefix(f"{path}:").split(": ")[:2] for line in caught.value.problems] == [
        ["4:13", "services.shop.server"],
        ["7:14", "services.broken.workers"],
        ["9:13", "services.other.server"],
        ["10:1", "colour"],
    ]


def is_dead(pid: int) -> bool:
    if not os.path.exists(f"/proc/{pid}"):
        return True
    state = subprocess.run(["ps", "-o", "state=", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() in ("", "Z")
