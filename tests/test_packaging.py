"""What `pip install .` gives: all of the package, nothing else, and complete metadata."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import forkd

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy: a build leaves its traces beside the sources."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "forkd", copy / "forkd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(copy / "out"), str(copy)], check=True)
    [found] = (copy / "out").glob("*.whl")
    with zipfile.ZipFile(found) as archive:
        yield archive


def metadata(wheel, name):
    return wheel.read(f"forkd-{forkd.__version__}.dist-info/{name}").decode()


def test_it_holds_the_package_and_nothing_else(wheel):
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "forkd").rglob("*.py")}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == package | {"forkd/README.md", "forkd/py.typed"}


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
