"""Services that come `after` others start when those serve, outlive them, and stop before them."""

from __future__ import annotations

import os
import signal

from tests.functional.installed import Installed
from tests.waiting import until

DIARY = """
import os, time
from forkd import Server

class Diary(Server):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def start(self):
        while self.name == "db" and not os.path.exists("go"):
            time.sleep(0.01)
        self.write("starts")

    def stop(self, graceful=True):
        self.write("stops")
        super().stop(graceful)

    def write(self, what):
        with open("diary", "a") as file:
            file.write(f"{self.name} {what}\\n")
"""


def begin(forkd: Installed) -> None:
    forkd.write("diary.py", DIARY)
    services = {"web": ["api"], "api": ["db"], "db": []}
    forkd.configure(
        {n: {"server": "diary:Diary", "args": {"name": n}, "after": after} for n, after in services.items()}
    )
    forkd.start(ready=False)


def diary(forkd: Installed) -> list[str]:
    file = forkd.folder / "diary"
    return file.read_text().splitlines() if file.exists() else []


def test_a_chain_starts_in_order_and_stops_in_reverse(forkd: Installed) -> None:
    begin(forkd)
    until(lambda: forkd.service("web").get("error"), what="a word of what it waits for")
    assert (forkd.service("web")["error"], forkd.service("api")["error"]) == ("waits for api", "waits for db")
    assert forkd.status()["forkd"]["state"] == "starting"
    assert diary(forkd) == []
    forkd.write("go", "")
    forkd.until_running()
    assert diary(forkd) == ["db starts", "api starts", "web starts"]
    assert forkd.run("stop").returncode == 0
    assert forkd.wait() == 0
    assert diary(forkd)[3:] == ["web stops", "api stops", "db stops"]


def test_it_outlives_what_it_came_after(forkd: Installed) -> None:
    forkd.write("go", "")
    begin(forkd)
    forkd.until_running()
    workers = forkd.workers("web"), forkd.workers("api")
    (pid,) = forkd.workers("db")
    os.kill(pid, signal.SIGKILL)
    until(lambda: forkd.workers("db") not in ([], [pid]), what="a replacement")
    assert forkd.run("stop", "db").returncode == 0
    assert (forkd.workers("web"), forkd.workers("api")) == workers
    done = forkd.run("restart", "db")
    assert (done.returncode, forkd.service("db")["state"]) == (0, "running")


def test_who_waits_for_what_was_stopped_is_told_so(forkd: Installed) -> None:
    forkd.write("go", "")
    begin(forkd)
    forkd.until_running()
    for name in ("web", "api"):
        assert forkd.run("stop", name).returncode == 0
    done = forkd.run("restart", "web")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("web: waits for api, which is stopped")
    assert forkd.run("restart", "api").returncode == 0
    until(lambda: forkd.service("web")["state"] == "running", what="its start")
