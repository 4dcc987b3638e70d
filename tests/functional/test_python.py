"""A service in a virtual environment of its own, of another release of Python, beside services in the launcher's."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import forkd as package
from tests.functional import environments
from tests.functional.installed import APP, connect, loads
from tests.waiting import until

if TYPE_CHECKING:
    from tests.certificates import Authority, Pair
    from tests.functional.installed import Installed

SHOWS = "import forkd, sys\n" + APP.replace("{os.getpid()}", "{sys.prefix} {sys.version_info.minor} {forkd.__file__}")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of another environment that has forkd."""
    return environments.with_forkd(tmp_path_factory.mktemp("other"))


@pytest.fixture
def bare(tmp_path: pathlib.Path) -> str:
    """The interpreter of an environment without forkd."""
    folder = tmp_path / "bare"
    folder.mkdir()
    return environments.make(folder, sys.executable, "--without-pip")


def test_it_serves_by_its_own_interpreter(forkd: Installed, other: str, concurrency: str) -> None:
    forkd.write("app.py", SHOWS)
    web = forkd.web(python=other, concurrency=concurrency, workers=2)
    forkd.configure({"web": web, "adder": {"server": "adder:Adder", "topic": "adder"}})
    forkd.start()
    shown = subprocess.run(
        [other, "-P", "-c", "import forkd, sys; print(sys.prefix, sys.version_info.minor, forkd.__file__)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert package.__file__ not in shown
    assert forkd.get() == f"one {shown}"
    assert forkd.run("call", "adder.add", "a=2", "b=3").stdout.strip() == "5"
    with loads(forkd.port) as clients:
        forkd.write("app.py", SHOWS.replace("one", "two"))
        assert forkd.run("reload").returncode == 0
        until(lambda: all(f"two {shown}" in client.bodies for client in clients), what="the new code")
    assert [client.failures for client in clients] == [[], []]
    assert forkd.run("status").returncode == 0


def test_its_ports_speak_tls(forkd: Installed, other: str, authority: Authority, pair: Pair) -> None:
    forkd.configure({"web": forkd.web(python=other, tls=pair._asdict())})
    forkd.start()
    with contextlib.closing(connect(forkd.port, authority.client())) as client:
        client.request("GET", "/")
        assert client.getresponse().status == 200


def test_check_imports_by_its_interpreter(forkd: Installed, other: str) -> None:
    forkd.write(
        "app.py", f"import sys\nassert sys.prefix == {str(pathlib.Path(other).parent.parent)!r}, sys.prefix\n{APP}"
    )
    forkd.configure({"web": forkd.web(python=other)})
    assert forkd.run("check", "--import", "-c", str(forkd.config)).returncode == 0
    forkd.configure({"web": forkd.web()})
    done = forkd.run("check", "--import", "-c", str(forkd.config))
    assert done.returncode == 78
    assert f"cannot import: AssertionError: {sys.prefix}" in done.stderr


def test_one_without_forkd_is_told_what_to_do(forkd: Installed, bare: str) -> None:
    forkd.configure({"web": forkd.web(python=bare), "ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
    what = f"{bare} does not run forkd {package.__version__}: it must be Python 3.11 or later"
    do = f"({bare} -m pip install forkd=={package.__version__})"
    checked = forkd.run("check", "--import", "-c", str(forkd.config))
    assert checked.returncode == 78
    assert f"services.web.app: cannot import: {what}" in checked.stderr
    assert do in checked.stderr
    forkd.start(ready=False)
    error = until(lambda: forkd.service().get("error"), what="the error in the status")
    assert error.startswith(f"import failed: python: {what}")
    assert error.endswith(do)
    until(lambda: forkd.service("ticker")["state"] == "running", what="the other service")


def test_run_names_the_interpreter_to_use(forkd: Installed, bare: str) -> None:
    forkd.configure({"web": forkd.web(python=bare)})
    done = forkd.run("run", "-c", str(forkd.config), "web")
    assert done.returncode == 1
    assert done.stderr == f"forkd: web has its own interpreter: {bare} -m forkd run -c {forkd.config} web\n"


def test_run_knows_its_own_interpreter_by_any_name(forkd: Installed) -> None:
    own = pathlib.Path(sys.executable)
    forkd.write("adder.py", "raise SystemExit('imported')")
    forkd.configure({"adder": {"server": "adder:Adder", "python": str(own.with_name("python3"))}})
    assert forkd.run("run", "-c", str(forkd.config), "adder").stderr.endswith("imported\n")
