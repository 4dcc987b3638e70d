"""A low limit on open files: the launcher lives with it, and nobody else sees that it has taken more."""

from __future__ import annotations

import resource
import signal
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

LIMITED = """
import os, resource
import forkd

def limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)

imported = limit()

class Limited(forkd.Server):
    def start(self):
        super().start()
        if {imported, limit()} != {(64, 4096)}:
            raise RuntimeError(f"{imported}, {limit()}")
"""
PLAIN = "import forkd\nclass Plain(forkd.Server): pass"


def _limited(soft: int, hard: int) -> list[str]:
    return ["sh", "-c", f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@"', "sh"]


def _limit(pid: int) -> tuple[int, int]:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


def test_a_low_soft_limit_is_raised_for_launcher_and_zygotes_and_not_for_services(forkd: Installed) -> None:
    forkd.write("limited.py", LIMITED)
    forkd.configure({"limited": {"server": "limited:Limited", "workers": 70, "concurrency": "threads"}})
    status = forkd.start(under=_limited(64, 4096)).until_running()
    assert _limit(forkd.pid) == _limit(status["services"][0]["zygote_pid"]) == (4096, 4096)
    assert {_limit(pid) for pid in forkd.workers("limited")} == {(64, 4096)}
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0


def test_what_finds_no_descriptors_is_told_and_everything_else_goes_on(forkd: Installed) -> None:
    forkd.write("plain.py", PLAIN)
    many = {"server": "plain:Plain", "workers": 60, "concurrency": "threads", "restart": {"delay": 0.05}}
    forkd.configure({"web": forkd.web(), "many": many})
    forkd.start(ready=False, under=_limited(64, 96))
    until(lambda: forkd.service("web").get("ready") == 1, what="the other service")
    until(lambda: "too many open files" in (forkd.service("many").get("error") or ""), what="the reason")
    until(lambda: forkd.service("many")["state"] == "degraded", what="as many as there can be")
    assert "could not be started: too many open files: the launcher may have 96" in forkd.log.read_text()
    assert forkd.get().startswith("one ")

    assert forkd.run("reload", "web").returncode == 0
    refused = forkd.run("reload")
    assert refused.returncode == 1
    assert "many: worker" in refused.stderr
    assert "too many open files" in refused.stderr

    assert forkd.run("stop", "many").returncode == 0
    forkd.configure({"web": forkd.web(), "many": {**many, "workers": 10}})
    assert forkd.run("reload").returncode == 0
    assert forkd.run("restart", "many").returncode == 0
    assert forkd.run("status").returncode == 0
    assert forkd.service("many")["ready"] == 10
    assert forkd.run("stop").returncode == 0
    assert forkd.wait() == 0
