"""Services that are there to be done: a migration, and the application that comes after it."""

from __future__ import annotations

import pytest

from tests.functional.installed import APP, Installed
from tests.functional.test_operators import on_a_terminal, shown
from tests.waiting import until

MIGRATION = """
import os, pathlib, forkd

class Migration(forkd.Server):
    def start(self):
        pathlib.Path("tried").open("a").write("x")
        if os.path.exists("schema"):
            pathlib.Path("migrated").open("a").write("x")
            self.service.stop()
            return
        raise OSError("no schema")
"""


@pytest.fixture
def migrated(forkd: Installed, concurrency: str) -> Installed:
    """A migration, and an application that cannot be imported before it is done; started, and not waited for."""
    forkd.write("migration.py", MIGRATION)
    forkd.write("app.py", "import os\nos.stat('migrated')\n" + APP)
    migration = {
        "server": "migration:Migration", "concurrency": concurrency, "restart": {"policy": "on-failure", "delay": "10ms"},
    }  # fmt: skip
    forkd.configure({"web": forkd.web(after=["migration"]), "migration": migration})
    return forkd


def until_done(migrated: Installed) -> None:
    """Wait until the migration has ended well, and the application serves."""

    def done() -> bool:
        return [one["state"] for one in migrated.status().get("services", [])] == ["running", "stopped"]

    until(done, 30.0, "a migration that is done, and the application")


def test_a_job_ends_well_and_what_comes_after_it_starts(migrated: Installed) -> None:
    migrated.write("schema", "")
    migrated.start(ready=False)
    until_done(migrated)
    job = migrated.service("migration")
    assert (job["error"], job["restarts"], migrated.run("status").returncode) == (None, 0, 0)
    log = migrated.log.read_text()
    assert [line for line in log.splitlines() if " ERROR " in line or " WARNING " in line] == []
    assert (migrated.folder / "migrated").read_text() == "x"


def test_a_job_that_fails_is_tried_again_and_holds_up_what_comes_after_it(migrated: Installed) -> None:
    migrated.start(ready=False)
    tried = migrated.folder / "tried"
    until(lambda: tried.exists() and len(tried.read_text()) > 2, what="a third try")
    assert migrated.service("migration")["error"] == "worker 0 failed to start: OSError: no schema"
    assert migrated.service("web")["workers"] == []
    migrated.write("schema", "")
    until_done(migrated)
    assert (migrated.folder / "migrated").read_text() == "x"


def test_a_reload_does_the_job_again(migrated: Installed) -> None:
    migrated.write("schema", "")
    migrated.start(ready=False)
    until_done(migrated)
    process, upper = on_a_terminal(migrated, "reload", "migration")
    text = shown(upper)
    assert process.wait(30) == 0
    assert "migration: 1 of 1 workers replaced" in text
    assert (migrated.folder / "migrated").read_text() == "xx"
