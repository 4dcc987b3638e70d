"""A launcher in a folder of its own for each functional test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import Installed

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def forkd(tmp_path: pathlib.Path) -> Iterator[Installed]:
    """An installed forkd, not yet started; at the end nothing of it may be left."""
    installed = Installed(tmp_path)
    yield installed
    installed.close()


@pytest.fixture
def public(short_tmp: pathlib.Path) -> Iterator[Installed]:
    """As `forkd`, in a folder that every user can read: whoever runs pytest keeps its own to himself."""
    short_tmp.chmod(0o755)
    installed = Installed(short_tmp)
    yield installed
    installed.close()


@pytest.fixture(params=["eventlet", "threads"])
def concurrency(request: pytest.FixtureRequest) -> str:
    """Both engines, one after the other."""
    return str(request.param)
