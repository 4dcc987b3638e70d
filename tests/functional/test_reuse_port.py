"""A port that several programs of one user listen on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import COMMAND, Installed
from tests.waiting import until

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def other(forkd: Installed, tmp_path: pathlib.Path) -> Iterator[Installed]:
    """Another forkd, for the same port."""
    folder = tmp_path / "other"
    folder.mkdir()
    installed = Installed(folder)
    installed.port = forkd.port
    installed.write("app.py", (folder / "app.py").read_text().replace('"one"', '"other"'))
    yield installed
    installed.close()


def test_a_second_forkd_starts_beside_the_first(forkd: Installed, other: Installed, concurrency: str) -> None:
    for each in (forkd, other):
        each.configure({"web": each.web(reuse_port=True, concurrency=concurrency)})
        each.start()
    until_both_answer(forkd)
    assert forkd.run("reload").returncode == 0
    until_both_answer(forkd)
    assert forkd.run("stop").returncode == 0
    assert other.get().startswith("other ")


def test_a_reload_shares_a_port_that_is_open_and_keeps_it_shared(forkd: Installed, other: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    other.configure({"web": other.web(reuse_port=True)})
    other.start(ready=False)
    error = until(lambda: other.service().get("error"), what="the error in the status")
    assert error.endswith("address already in use by a program that does not share it, or that is another user's")
    forkd.configure({"web": forkd.web(reuse_port=True)})
    assert forkd.run("reload").returncode == 0
    other.until_running()
    until_both_answer(forkd)
    forkd.configure({"web": forkd.web()})
    assert forkd.run("reload").returncode == 0
    until_both_answer(forkd)


def test_what_would_help_is_said(forkd: Installed, other: Installed) -> None:
    forkd.configure({"web": forkd.web(reuse_port=True)})
    forkd.start()
    other.configure({"web": other.web()})
    other.start(ready=False)
    error = until(lambda: other.service().get("error"), what="the error in the status")
    assert error.endswith("in use; who listens there shares it with programs that have `reuse_port: true`")
    other.configure({"web": other.web(reuse_port=True)})
    assert other.run("reload").returncode == 0
    until_both_answer(forkd)


def test_a_service_in_the_foreground_beside_a_forkd(forkd: Installed, other: Installed, concurrency: str) -> None:
    for each in (forkd, other):
        each.configure({"web": each.web(reuse_port=True, concurrency=concurrency)})
    forkd.start()
    with other.log.open("ab") as log:
        other.process = subprocess.Popen(
            [COMMAND, "run", "-c", other.config, "web"],
            stdout=log,
            stderr=log,
            env=other.environment(),
            cwd=other.folder,
        )
    until_both_answer(forkd)


def until_both_answer(forkd: Installed) -> None:
    seen: set[str] = set()

    def both() -> bool:
        seen.add(forkd.get().partition(" ")[0])
        return seen == {"one", "other"}

    until(both, what="an answer of each")
