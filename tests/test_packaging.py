"""What `pip install .` gives: all of the package, nothing else, and complete metadata; and so if it is compiled."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import forkd
from tests import compiled
from tests.functional import installed
from tests.functional.installed import Installed

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


EXTENSION = sysconfig.get_config_var("EXT_SUFFIX")
TELLS_FILE = """
import sys

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [sys.modules["forkd.wsgi.handler"].__file__.encode()]
"""
OPTIONS = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]


def pip(*arguments, **environment):
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    return subprocess.run(command, check=False, env={**os.environ, **environment}, capture_output=True, text=True)


def tree(folder):
    """Copy what a wheel is built from: a build leaves its traces beside the sources."""
    shutil.copytree(ROOT / "forkd", folder / "forkd", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    return folder


def build(folder, **environment):
    done = pip("wheel", *OPTIONS, "--no-build-isolation", "--wheel-dir", folder / "out", tree(folder), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = (folder / "out").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(build(tmp_path_factory.mktemp("tree"), FORKD_COMPILE="")) as archive:
        yield archive


@pytest.fixture(scope="module")
def compiled_wheel(tmp_path_factory):
    """The path of one, which takes a minute to build."""
    return build(tmp_path_factory.mktemp("compiled"), FORKD_COMPILE="1")


@pytest.fixture(scope="module")
def compiled_forkd(tmp_path_factory, compiled_wheel):
    """A folder in which that one is installed."""
    folder = tmp_path_factory.mktemp("installed")
    assert pip("install", *OPTIONS, "--target", folder, compiled_wheel).returncode == 0
    return folder


def metadata(wheel, name):
    return wheel.read(f"forkd-{forkd.__version__}.dist-info/{name}").decode()


def content(wheel):
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def package():
    return {str(path.relative_to(ROOT)) for path in (ROOT / "forkd").rglob("*.py")} | {
        "forkd/README.md",
        "forkd/py.typed",
    }


def test_it_holds_the_package_and_nothing_else(wheel):
    assert content(wheel) == package()
    assert wheel.filename.endswith("-py3-none-any.whl")


def test_it_has_the_command(wheel):
    assert "forkd = forkd.cli:main" in metadata(wheel, "entry_points.txt")


def test_its_metadata_is_complete(wheel):
    fields = email.message_from_string(metadata(wheel, "METADATA"))
    assert (fields["Name"], fields["Version"]) == ("forkd", forkd.__version__)
    assert fields["Requires-Python"] == ">=3.11"
    assert "Apache-2.0" in (fields["License"] or fields["License-Expression"])
    assert fields["Summary"]
    assert fields["Author"]
    assert fields["Description-Content-Type"] == "text/markdown"
    assert "# forkd" in fields.get_payload()
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
    required = {line.partition(">")[0] for line in fields.get_all("Requires-Dist") if "extra ==" not in line}
    assert required == {"cronsim", "eventlet", "msgpack", "psutil", "pydantic", "pyyaml", "setproctitle"}


# --- compiled --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_compiled_one_holds_extensions_beside_their_sources(compiled_wheel):
    extensions = {source.removesuffix(".py") + EXTENSION for source in compiled.SOURCES}
    with zipfile.ZipFile(compiled_wheel) as archive:
        assert content(archive) == package() | extensions | {"forkd/compiled__mypyc" + EXTENSION}
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{python}-{python}-linux_" in compiled_wheel.name


@pytest.mark.timeout(600)
@pytest.mark.parametrize("concurrency", ["eventlet", "threads"])
def test_a_compiled_one_serves(compiled_forkd, concurrency, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "COMMAND", compiled_forkd / "bin/forkd")
    monkeypatch.setenv("PYTHONPATH", str(compiled_forkd))
    forkd_ = Installed(tmp_path)
    forkd_.write("app.py", TELLS_FILE)
    forkd_.configure({"web": forkd_.web(concurrency=concurrency)})
    try:
        assert forkd_.run("--version").stdout == f"forkd {forkd.__version__} (compiled)\n"
        forkd_.start()
        assert forkd_.get() == str(compiled_forkd / "forkd/wsgi/handler") + EXTENSION
    finally:
        forkd_.close()


def test_what_cannot_be_compiled_is_an_error(tmp_path):
    """Here for want of the right mypy; nothing is built instead."""
    setup = tree(tmp_path) / "setup.py"
    setup.write_text(setup.read_text("utf-8").replace('MYPY = "mypy==', 'MYPY = "mypy==0.'), "utf-8")
    done = pip("wheel", *OPTIONS, "--no-build-isolation", "--wheel-dir", tmp_path / "out", tmp_path, FORKD_COMPILE="1")
    assert done.returncode != 0
    assert "FORKD_COMPILE needs mypy==0." in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.whl"))
