"""The interpreter that runs a program of forkd's: this one, or that of a service's own virtual environment."""

from __future__ import annotations

import os
import sys

import forkd


def command(module: str, *arguments: str, python: str | None = None) -> list[str]:
    """Return the command line that runs a module; `python` None: by this process's own interpreter."""
    # -P: no file of the working directory may stand in for a module.
    return [python or sys.executable, "-P", "-m", module, *arguments]


def is_own(python: str | None) -> bool:
    """Tell whether it is this process's own, in the same virtual environment, whatever it is called there."""
    if python is None:
        return True
    return all(os.path.realpath(one(python)) == os.path.realpath(one(sys.executable)) for one in (str, os.path.dirname))


def remedy(python: str | None) -> str:
    """Say what one that does not run forkd, or one of another protocol, needs."""
    path, version = python or sys.executable, forkd.__version__
    return (
        f"{path} does not run forkd {version}: it must be Python 3.11 or later and have that where the service's user "
        f"can read it ({path} -m pip install forkd=={version})"
    )
