"""`forkd stacks` shows what a worker is at, which serves on; those that are stuck are in test_hangs.py."""

from __future__ import annotations

import json
import os
import signal
import socket

from forkd.control.client import Client
from forkd.ops import stacks
from tests.functional.installed import Installed
from tests.waiting import until

WAITS = """
import os, time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        wait_for_go()
    start_response("200 OK", [])
    return [b"done"]

def wait_for_go():
    while not os.path.exists("go"):
        time.sleep(0.01)
"""

CHURNS = """
import sys
if "eventlet" in sys.modules:
    import eventlet.patcher
    threading = eventlet.patcher.original("threading")
else:
    import threading

def churn():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

for _ in range(3):
    threading.Thread(target=churn, daemon=True).start()

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"done"]
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


def test_a_worker_whose_threads_begin_and_end_all_the_time_outlives_every_look_at_them(
    forkd: Installed, concurrency: str
) -> None:
    forkd.write("app.py", CHURNS)
    forkd.configure({"web": forkd.web(concurrency=concurrency, preload=False)})
    (pid,) = forkd.start().workers()
    for _ in range(300):
        os.kill(pid, signal.SIGUSR2)
        with Client(str(forkd.runtime_dir)) as client:
            (worker,) = stacks.gather(client, 0, stacks.asked(client.status(), "web", 0))
        assert "in churn" in (worker.stacks or "")
    assert "in churn" in forkd.run("stacks", "web").stdout
    assert forkd.get() == "done"
    assert forkd.workers() == [pid]
