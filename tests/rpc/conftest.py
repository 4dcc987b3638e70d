"""Workers of either engine, each in a process of its own, on real sockets or a real broker; clients that get closed."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kombu.connection import Connection

from forkd import rpc, sockets
from forkd.rpc.transports.amqp import names
from tests.rpc.in_loop import InLoop
from tests.waiting import until

HERE = socket.gethostname()
ROOT = Path(__file__).parent.parent.parent


class Given(BaseException):
    """What a signal's handler raises."""


class Worker:
    """One serving process: `expect` reads its lines, `order` writes to it."""

    def __init__(self, setup, runtime, pass_fds):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in the end
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rpc.serving", json.dumps(setup)],
            cwd=ROOT,
            env={**os.environ, "FORKD_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=pass_fds,
            bufsize=0,
        )
        self.pid = self.process.pid
        self._said = b""

    def expect(self, *lines):
        """Read the next line, which must be one of these and come within 30 s."""
        out = self.process.stdout
        assert out is not None
        while b"\n" not in self._said:
            assert select.select([out], [], [], 30)[0], f"{lines}: the worker says nothing"
            data = os.read(out.fileno(), 1000)
            assert data, f"{lines}: the worker is gone"
            self._said += data
        said, _, self._said = self._said.partition(b"\n")
        assert said.decode() in lines

    def errors(self):
        """Return what it has written to its stderr."""
        self._errors.seek(0)
        return self._errors.read().decode()

    def order(self, word):
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def stop(self):
        """Drain it to its end."""
        self.order("stop")
        self.expect("stopped")
        assert self.process.wait(30) == 0

    def end(self):
        if self._errors.closed:
            return
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        sys.stderr.write(self.errors())
        self._errors.close()


class Host:
    """Where workers run: a runtime directory, or a broker's address.

    With the launcher's part in it: a listener for each slot, which outlives the workers.
    """

    def __init__(self, runtime, concurrency, client=rpc.Client, transport="local"):
        self.runtime = runtime
        self.concurrency = concurrency
        self.transport = transport
        self._client = client
        self._listeners = {}
        self._incarnations = itertools.count(1)
        self._to_end = []

    @property
    def is_local(self):
        return self.transport == "local"

    def listener(self, slot=0, topic="probe"):
        if (topic, slot) not in self._listeners:
            where = self.runtime / "rpc" / topic
            where.mkdir(parents=True, exist_ok=True)
            self._listeners[topic, slot] = sockets.listen(f"unix:{where}/{slot}.sock", 64)
        return self._listeners[topic, slot]

    def worker(self, slot=0, topic="probe", **setup):
        """Start a worker in a slot and wait until it is ready."""
        setup |= {"concurrency": self.concurrency, "transport": self.transport, "topic": topic, "slot": slot}
        setup |= {"listener": self.listener(slot, topic).fileno()} if self.is_local else {}
        fds = [setup[key] for key in ("listener", "board") if key in setup]
        return self.start(setup | {"incarnation": next(self._incarnations)}, fds)

    def await_workers(self, count, topic="probe", transport=None):
        """Wait until the broker knows of this many workers: it may hear late of one that was killed."""
        if not self.is_local:
            with Connection(transport or self.transport) as connection, connection.channel() as channel:
                queue = names.of_topic(topic)
                until(
                    lambda: channel.queue_declare(queue, passive=True).consumer_count == count,
                    what=f"the broker knows of {count} workers",
                )

    def vacancy(self):
        """Have the topic a slot without a worker."""
        if self.is_local:
            self.listener()
        else:
            self.worker().stop()

    def start(self, setup, pass_fds=()):
        worker = Worker(setup, self.runtime, pass_fds)
        self._to_end.append(worker.end)
        worker.expect("ready")
        return worker

    def client(self, topic="probe", timeout=30.0, **more):
        client = self._client(topic, self.transport, timeout=timeout, runtime_dir=str(self.runtime), **more)
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
EVERYWHERE = [*KINDS, *(f"amqp-{kind}" for kind in KINDS)]


def _host(request, runtime):
    broker, _, kind = request.param.rpartition("-")
    if not broker:
        return Host(runtime, *KINDS[kind])
    broker = request.getfixturevalue("broker")  # asked for only here: most tests need none
    return Host(runtime, *KINDS[kind], broker.url(broker.vhost()))


@pytest.fixture(params=EVERYWHERE)
def host(request, short_tmp):
    host = _host(request, short_tmp)
    yield host
    host.end()


@pytest.fixture(params=KINDS)
def local(request, short_tmp):
    """Yield a host without a broker."""
    host = _host(request, short_tmp)
    yield host
    host.end()


@pytest.fixture(params=[kind for kind in EVERYWHERE if "-" in kind])
def remote(request, short_tmp):
    """Yield a host whose workers are reached over a broker."""
    host = _host(request, short_tmp)
    yield host
    host.end()


@pytest.fixture(scope="module", params=EVERYWHERE)
def shared(request):
    """Yield a host with one worker, which all tests of a module use that leave it as they found it."""
    with tempfile.TemporaryDirectory(prefix="fkd-", dir="/tmp") as runtime:
        host = _host(request, Path(runtime))
        try:
            host.worker()
            yield host
        finally:
            host.end()


@pytest.fixture
def client(shared):
    """Yield a client of the shared worker."""
    with shared.client() as client:
        yield client


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


@pytest.fixture
def alarm():
    """Have a signal's handler call a function in the main thread: `alarm(fn, seconds, again)` as `setitimer` does."""
    before = signal.getsignal(signal.SIGALRM)

    def alarm(fn, seconds, again=0.0):
        signal.signal(signal.SIGALRM, lambda *_: fn())
        signal.setitimer(signal.ITIMER_REAL, seconds, again)

    yield alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
