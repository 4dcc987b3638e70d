"""Workers that have done enough are replaced before they stop, and no client notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.functional.installed import Installed, loads
from tests.waiting import until

if TYPE_CHECKING:
    from typing import Any

EATER = """
import os

eaten = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        eaten.append(bytearray(100 << 20))
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def exits(forkd: Installed, name: str = "web") -> list[dict[str, Any]]:
    return [worker["last_exit"] for worker in forkd.service(name)["workers"] if worker["last_exit"]]


def test_after_so_many_requests(forkd: Installed, concurrency: str) -> None:
    recycle = {"requests": 200, "jitter": "50%"}
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency, recycle=recycle)})
    first = set(forkd.start().workers())
    with loads(forkd.port) as clients:
        until(lambda: not first & set(forkd.workers()), 30.0, "the end of the first workers")
        until(lambda: len(exits(forkd)) == 2, what="their ends in the status")
    assert [client.failures for client in clients] == [[], []]
    for last in exits(forkd):
        assert last["code"] == 0
        served = int(last["reason"].removeprefix("recycled: served ").removesuffix(" requests"))
        assert 100 <= served <= 200


def test_after_so_many_calls(forkd: Installed, concurrency: str) -> None:
    recycle = {"requests": 2, "jitter": "0%"}
    keys = {"server": "adder:Adder", "topic": "adder", "concurrency": concurrency, "recycle": recycle}
    forkd.configure({"adder": keys})
    forkd.start()
    for _ in range(2):
        assert forkd.run("call", "adder.add", "a=1", "b=2").stdout == "3\n"
    until(lambda: exits(forkd, "adder"), 30.0, "its end in the status")
    assert exits(forkd, "adder")[0]["reason"] == "recycled: served 2 requests"
    assert forkd.run("call", "adder.add", "a=1", "b=2").stdout == "3\n"


def test_at_an_age(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(recycle={"age": "1s", "jitter": "0%"})})
    (first,) = forkd.start().workers()
    until(lambda: exits(forkd), 30.0, "its end in the status")
    assert exits(forkd)[0]["reason"] == "recycled: 1 s old"
    assert first not in forkd.workers()


def test_when_it_has_grown(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", EATER)
    forkd.configure({"web": forkd.web(concurrency=concurrency, recycle={"memory": "100MiB"})})
    (first,) = forkd.start().workers()
    assert forkd.get("/eat") == str(first)
    until(lambda: exits(forkd), 30.0, "its end in the status")
    (last,) = exits(forkd)
    assert last["reason"].startswith("recycled: uses 1")
    assert last["reason"].endswith("more than 100 MiB")
    assert last["code"] == 0
