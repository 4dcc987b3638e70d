"""What every test may use, and what none may depend on."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.broker import Broker
from tests.certificates import Authority, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a developer's shell or a supervisor around the tests says must reach no process under test.
FOREIGN = (
    "FORKD_LOG_FORMAT",
    "FORKD_LOG_LEVEL",
    "FORKD_RUNTIME_DIR",
    "LISTEN_FDS",
    "NOTIFY_SOCKET",
    "PYTHONDONTWRITEBYTECODE",  # each of the many processes would compile all its modules anew
    "RUNTIME_DIRECTORY",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
)

# A shared machine is slow at times, and a failing example is to be found again by whoever reads the output.
settings.register_profile("forkd", deadline=None, print_blob=True)
settings.load_profile("forkd")


def pytest_configure() -> None:
    """Clear the environment before any test module is imported, and heed signals that a shell ignores behind an `&`."""
    for name in FOREIGN:
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # every process under test would do so
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who signs the certificates of this session."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """Return the certificate of a server on this machine, and its key."""
    return authority.issue("server")


@pytest.fixture(scope="session")
def broker(authority: Authority) -> Iterator[Broker]:
    """Yield a broker of this session's own, started when a test first asks for it; each leaves it as it found it."""
    with Broker(authority=authority) as broker:
        yield broker


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Yield an own directory with a short name: a Unix socket's path has 107 bytes, pytest's directories take half."""
    path = Path(tempfile.mkdtemp(prefix="fkd-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
