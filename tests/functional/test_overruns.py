"""A request or a call that takes too long is told of, and its worker replaced while it goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

SLOW = """
import os, time
from forkd import rpc

class Slow(rpc.Server):
    def hold(self):
        while not os.path.exists("go"):
            time.sleep(0.01)
        return "done"
"""


def replaced(forkd: Installed, name: str, first: int) -> None:
    """Wait until another worker serves, the first one still draining."""

    def has_successor() -> bool:
        phases = {worker["pid"]: worker["phase"] for worker in forkd.service(name)["workers"]}
        return phases.pop(first, None) == "stopping" and list(phases.values()) == ["ready"]

    until(has_successor, 30.0, "the successor")


def last_reason(forkd: Installed, name: str) -> str:
    def found() -> str:
        ends = [worker["last_exit"] for worker in forkd.service(name)["workers"]]
        return next((end["reason"] for end in ends if end), "")

    return until(found, 30.0, "the end of the first worker")


def test_of_a_request(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(concurrency=concurrency, request_timeout="500ms")})
    (first,) = forkd.start().workers()
    with ThreadPoolExecutor() as pool:
        held = pool.submit(forkd.get, "/held", timeout=60)
        replaced(forkd, "web", first)
        assert "GET /held has run for more than 0.5 s and goes on:" in forkd.log.read_text()
        assert ", in application\n    time.sleep(0.01)" in forkd.log.read_text()
        forkd.write("go", "")
        assert held.result().endswith(str(first))
    assert last_reason(forkd, "web") == "recycled: a request took more than 0.5 s: GET /held"


def test_of_one_that_never_ends(forkd: Installed, concurrency: str) -> None:
    keys = {"request_timeout": "500ms", "stop_timeout": "500ms"}
    forkd.configure({"web": forkd.web(concurrency=concurrency, **keys)})
    forkd.start()
    with ThreadPoolExecutor() as pool:
        held = pool.submit(forkd.get, "/held", timeout=60)
        reason = last_reason(forkd, "web")
        assert reason.startswith("recycled: a request took more than 0.5 s: GET /held")
        assert isinstance(held.exception(), OSError)
    assert forkd.get("/") != ""


def test_of_a_call(forkd: Installed, concurrency: str) -> None:
    forkd.write("slow.py", SLOW)
    keys = {"server": "slow:Slow", "topic": "slow", "concurrency": concurrency, "request_timeout": "500ms"}
    forkd.configure({"slow": keys})
    (first,) = forkd.start().workers("slow")
    with ThreadPoolExecutor() as pool:
        held = pool.submit(forkd.run, "call", "slow.hold")
        replaced(forkd, "slow", first)
        assert "slow.hold has run for more than 0.5 s and goes on:" in forkd.log.read_text()
        forkd.write("go", "")
        assert held.result().stdout == "done\n"
    assert last_reason(forkd, "slow") == "recycled: a call took more than 0.5 s: slow.hold"
