"""Workers of either engine on real sockets, each in a process of its own, and clients that are closed in the end."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forkd import rpc, sockets
from tests.rpc.in_loop import InLoop

ROOT = Path(__file__).parent.parent.parent


class Worker:
    """One serving process: `expect` reads its lines, `order` writes to it."""

    def __init__(self, setup, runtime, pass_fds):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rpc.serving", json.dumps(setup)],
            cwd=ROOT,
            env={**os.environ, "FORKD_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            bufsize=0,
        )
        self.pid = self.process.pid
        self._said = b""

    def expect(self, line):
        """Read the next line, which must be this one and come within 30 s."""
        out = self.process.stdout
        assert out is not None
        while b"\n" not in self._said:
            assert select.select([out], [], [], 30)[0], f"{line}: the worker says nothing"
            data = os.read(out.fileno(), 1000)
            assert data, f"{line}: the worker is gone"
            self._said += data
        said, _, self._said = self._said.partition(b"\n")
        assert said.decode() == line

    def order(self, word):
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def stop(self):
        """Drain it to its end."""
        self.order("stop")
        self.expect("stopped")
        assert self.process.wait(30) == 0

    def end(self):
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Host:
    """A runtime directory with the launcher's part in it: a listener for each slot, which outlives the workers."""

    def __init__(self, runtime, concurrency, client=rpc.Client):
        self.runtime = runtime
        self.concurrency = concurrency
        self._client = client
        self._listeners = {}
        self._incarnations = itertools.count(1)
        self._to_end = []

    def listener(self, slot=0, topic="probe"):
        if (topic, slot) not in self._listeners:
            where = self.runtime / "rpc" / topic
            where.mkdir(parents=True, exist_ok=True)
            self._listeners[topic, slot] = sockets.listen(f"unix:{where}/{slot}.sock", 64)
        return self._listeners[topic, slot]

    def worker(self, slot=0, topic="probe", **setup):
        """Start a worker in a slot and wait until it is ready."""
        listener = self.listener(slot, topic).fileno()
        setup |= {"concurrency": self.concurrency, "topic": topic, "slot": slot, "listener": listener}
        fds = [listener, setup["board"]] if "board" in setup else [listener]
        return self.start(setup | {"incarnation": next(self._incarnations)}, fds)

    def start(self, setup, pass_fds=()):
        worker = Worker(setup, self.runtime, pass_fds)
        self._to_end.append(worker.end)
        worker.expect("ready")
        return worker

    def client(self, topic="probe", timeout=30.0, **more):
        client = self._client(topic, timeout=timeout, runtime_dir=str(self.runtime), **more)
        self._to_end.append(getattr(client, "end", client.close))
        return client

    def end(self):
        for end in reversed(self._to_end):
            end()
        for listener in self._listeners.values():
            listener.close()


def connections(client):
    """Return the connections that a client has just now, of the local transport."""
    return client._link.transport._connections._connections


# Who calls from an event loop is served by one engine as by the other.
KINDS = {"threads": ("threads", rpc.Client), "eventlet": ("eventlet", rpc.Client), "async": ("threads", InLoop)}


@pytest.fixture(params=KINDS)
def host(request, short_tmp):
    host = Host(short_tmp, *KINDS[request.param])
    yield host
    host.end()


@pytest.fixture(scope="module", params=KINDS)
def shared(request):
    """Yield a host with one worker, which all tests of a module use that leave it as they found it."""
    with tempfile.TemporaryDirectory(prefix="fkd-", dir="/tmp") as runtime:
        host = Host(Path(runtime), *KINDS[request.param])
        try:
            host.worker()
            yield host
        finally:
            host.end()


@pytest.fixture
def looks(monkeypatch):
    """Return the directories that are listed, each time that one is."""
    found = []
    listdir = os.listdir

    def listing(path):
        found.append(path)
        return listdir(path)

    monkeypatch.setattr("os.listdir", listing)
    return found


@pytest.fixture
def callers():
    """Yield a pool of threads to call from."""
    with ThreadPoolExecutor(32) as pool:
        yield pool
