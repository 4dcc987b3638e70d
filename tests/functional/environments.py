"""Virtual environments beside the one that runs the tests."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
RELEASES = ("3.13", "3.12", "3.11")
PACKAGE = ("forkd", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def with_forkd(folder: pathlib.Path) -> str:
    """Make one with this tree's forkd, of another release of Python where there is one; return its interpreter."""
    python = make(folder, _another_release())
    tree = folder / "tree"  # a copy: a build leaves its traces beside the sources
    tree.mkdir()
    for name in PACKAGE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([python, *pip, str(tree)], check=True, cwd=folder)
    return python


def make(folder: pathlib.Path, python: str = sys.executable, *options: str) -> str:
    """Make one without any packages but pip; return its interpreter."""
    subprocess.run([python, "-m", "venv", *options, str(folder / "venv")], check=True)
    return str(folder / "venv" / "bin" / "python")


def _another_release() -> str:
    """Find an interpreter of another release that forkd supports; where there is none, this one."""
    places = [
        pathlib.Path("/usr/bin"),
        pathlib.Path("/usr/local/bin"),
        *pathlib.Path.home().glob(".pyenv/versions/*/bin"),
    ]
    for release in RELEASES:
        for place in places if release != f"{sys.version_info.major}.{sys.version_info.minor}" else ():
            if _makes_environments(place / f"python{release}"):
                return str(place / f"python{release}")
    return sys.executable


def _makes_environments(python: pathlib.Path) -> bool:
    """Tell whether it is there with its venv and pip, which some systems package apart."""
    probe = [str(python), "-c", "import ensurepip, venv"]
    return python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0
