"""`forkd stacks` shows what a worker is at, whether it can say so or not."""

from __future__ import annotations

import json
import socket

from tests.functional.installed import Installed
from tests.waiting import until

WAITS = """
import os, time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        wait_for_go()
    if environ["PATH_INFO"] == "/stuck":
        hold_the_interpreter()
    start_response("200 OK", [])
    return [b"done"]

def wait_for_go():
    while not os.path.exists("go"):
        time.sleep(0.01)

def hold_the_interpreter():
    sum(range(10**11))  # no signal is heeded in there
"""


def ask(forkd: Installed, path: str) -> socket.socket:
    """Send a request and return its connection when a worker is at it."""
    client = socket.create_connection(("127.0.0.1", forkd.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    until(lambda: forkd.in_flight() == 1, what="a request in flight")
    return client


def test_a_worker_shows_what_it_is_at_and_serves_on(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", WAITS)
    forkd.configure({"web": forkd.web(concurrency=concurrency)})
    (pid,) = forkd.start().workers()
    with ask(forkd, "/held") as client:
        done = forkd.run("stacks", "web/0")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"web/0 pid {pid}\n")
        assert "wait_for_go" in done.stdout
        (worker,) = json.loads(forkd.run("stacks", "web", "--json").stdout)
        assert (worker["service"], worker["slot"], worker["pid"]) == ("web", 0, pid)
        assert "wait_for_go" in worker["stacks"]
        forkd.write("go", "")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert forkd.workers() == [pid]


def test_a_worker_that_cannot_say_so_is_seen_to_be_stuck(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", WAITS)
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency, kill_timeout=1, stop_timeout=1)})
    forkd.start()
    with ask(forkd, "/stuck"):
        found = json.loads(forkd.run("stacks", "web", "--json").stdout)
    assert [worker["slot"] for worker in found] == [0, 1]
    assert ["hold_the_interpreter" in worker["stacks"] for worker in found].count(True) == 1
    assert forkd.run("signal", "web", "KILL").returncode == 0
