"""A worker for the tests: `python -m tests.rpc.serving '{"concurrency": …, "topic": …, …}'`.

Says `ready`, `began NAME` and `stopped` on stdout; hears `release`, `stop` and `cut` on stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import resource
import sys

SETUP = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
if SETUP:
    from forkd import threadgroup

    threadgroup.prepare(SETUP["concurrency"])

import socket  # noqa: E402 -- after eventlet has patched it
import threading  # noqa: E402 -- as above

from forkd import Service, log_context, periodic_task, rpc  # noqa: E402
from forkd.rpc.transports.amqp import names  # noqa: E402
from forkd.scoreboard import Board  # noqa: E402
from forkd.service import Inheritance, WorkerIdentity  # noqa: E402
from tests.rpc import awkward, known  # noqa: E402

PEN = threading.Lock()


def say(text):
    with PEN:  # two green threads may not wait to write to one descriptor
        os.write(1, f"{text}\n".encode())


class FailingItems(dict):
    """As a mapping whose items come from elsewhere."""

    def items(self):
        raise LookupError("a")


class Probe(rpc.Server):
    """What the tests call."""

    helper = json.JSONDecoder  # callable, and no method

    def __init__(self):
        self.counted = 0
        self.marks = []
        self.hoarded = []
        self.instance_attribute = len

    def init(self, service):
        self.group = service.thread_group
        self.gate = self.group.event()
        super().init(service)

    def echo(self, value):
        return value

    def add(self, a, b=1):
        return a + b

    def anything(self, **values):
        return values

    def with_context(self, value, context):
        return [value, context]

    def boom(self, text):
        raise KeyError(text)

    def leave(self):
        raise SystemExit(3)

    def cancel(self):
        raise asyncio.CancelledError("b")

    def interrupt(self):
        raise KeyboardInterrupt("b")

    def give_up(self):
        raise GeneratorExit("b")

    def time_out(self):
        with sys.modules["eventlet"].Timeout(0.01):
            self.gate.wait()

    def kill_itself(self):
        raise sys.modules["greenlet"].GreenletExit("b")

    def stop_itself(self):
        self.group.current().stop()
        self.gate.wait()

    def miscounted(self):
        return self._dispatcher.crew.members - self.group.active

    def unsendable(self):
        return {1, 2}

    def unreadable(self):
        return {(1, 2): 3}

    def failing_items(self):
        return FailingItems(a=1)

    def ending_items(self):
        return awkward.Items(a=1)

    def raise_awkwardly(self, name):
        raise awkward.EXCEPTIONS[name]

    def large(self, size):
        return "x" * size

    def who(self):
        return os.getpid()

    def mark(self, key):
        """Note that a call has run."""
        self.marks.append(key)
        return key

    def nap(self, seconds, key):
        self.group.sleep(seconds)
        return self.mark(key)

    def marked(self):
        return self.marks

    def refuse(self, *, strangely=False):
        raise (known.Strange(1, 2) if strangely else known.Refused("no", dt.date(2026, 1, 1)))

    @rpc.idempotent
    def echo_again(self, value):
        return value

    @rpc.idempotent
    def hold_again(self, name):
        return self.hold(name)

    def about(self):
        return log_context.shown()

    def hoard(self):
        """Take all descriptors that the process may have."""
        with contextlib.suppress(OSError):
            while True:
                self.hoarded.append(os.dup(0))

    def release(self):
        while self.hoarded:
            os.close(self.hoarded.pop())

    def hold(self, name):
        say(f"began {name}")
        self.gate.wait()
        return name

    def bump(self):
        self.counted += 1

    def count(self):
        return self.counted

    def relay(self, topic, method, args):
        with rpc.Client(topic, self.transport) as client:
            return client.call(method, **args)

    @staticmethod
    def fixed():
        return "fixed"

    @classmethod
    def of_class(cls):
        return cls.__name__

    @property
    def computed(self):
        return self.echo

    @periodic_task(spacing=3600)
    def tick(self):
        """Do nothing."""

    def _hidden(self):
        """Do nothing."""


def inheritance():
    listeners, board, worker = {}, None, None
    if "listener" in SETUP:
        address = f"unix:{os.environ['FORKD_RUNTIME_DIR']}/rpc/{SETUP['topic']}/{SETUP['slot']}.sock"
        listeners[address] = socket.socket(fileno=SETUP["listener"])
    if "slot" in SETUP:
        worker = WorkerIdentity(socket.gethostname(), "probe", SETUP["slot"], SETUP["incarnation"])
    if "board" in SETUP:
        board = Board(SETUP["board"])
    return Inheritance(listeners, board, worker)


def obey(service, server):
    """Follow the orders that come on stdin."""
    while service.thread_group.wait_readable(0):
        orders = os.read(0, 1000).decode().split()
        for order in orders:
            if order == "release":
                server.gate.set()
            else:
                service.stop(graceful=order == "stop")
        if not orders:
            return


def main():
    if "unused" in SETUP:
        names.UNUSED = SETUP["unused"]
    if "files" in SETUP:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SETUP["files"],) * 2)
    server = Probe()
    server.topic = SETUP["topic"]
    server.transport = SETUP.get("transport", "local")
    server.version = "1.2"
    server.allow = SETUP.get("allow", ())
    server.call_queue = SETUP.get("call_queue")
    limits = {"threads": SETUP.get("threads"), "request_timeout": SETUP.get("request_timeout", 0)}
    service = Service(server, concurrency=SETUP["concurrency"], **limits)
    service.adopt(inheritance())
    with PEN:  # a call may come at once, and begins after this is said
        service.start()
        os.write(1, b"ready\n")
    service.thread_group.add_loop(obey, service, server)
    service.wait()
    say("stopped")


if __name__ == "__main__":
    main()
