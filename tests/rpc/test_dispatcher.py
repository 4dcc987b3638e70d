"""Which thread runs a call, at instants that no client can choose."""

from __future__ import annotations

import queue
import threading

from forkd import Service, rpc
from forkd.rpc import wire
from forkd.rpc.dispatcher import Dispatcher
from tests.waiting import until

PATIENCE = 30.0  # seconds


class Hesitant(queue.SimpleQueue):
    """Whoever fetches from it gets no further until `go_on` is set, as if just then another thread had its turn."""

    def __init__(self):
        self.fetched, self.go_on = threading.Event(), threading.Event()

    def get(self, *args, **options):
        call = super().get(*args, **options)
        self.fetched.set()
        assert self.go_on.wait(PATIENCE)
        return call


class Echo(rpc.Server):
    def echo(self, value):
        return value


def test_no_call_is_left_to_a_thread_that_is_just_fetching_another(monkeypatch):
    monkeypatch.setattr("forkd.rpc.dispatcher._LINGER", PATIENCE)
    server = Echo("echo")
    service = Service(server, concurrency="threads")
    dispatcher = Dispatcher(server, service, rpc.Server)
    dispatcher._waiting = hesitant = Hesitant()
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def submit(number):
        call = {"type": "call", "id": number, "method": "echo", "args": {"value": number}}
        dispatcher.submit(wire.request(call), answers.put)

    def answered():
        (answer,) = wire.Frames().feed(answers.get(timeout=PATIENCE))
        return answer["id"]

    submit(1)
    assert answered() == 1
    until(lambda: dispatcher._idle == 1, what="its thread lingers")
    submit(2)
    assert hesitant.fetched.wait(PATIENCE)
    submit(3)
    assert answered() == 3
    hesitant.go_on.set()
    assert answered() == 2
    until(lambda: dispatcher._idle == 2, what="both threads linger")
    dispatcher.drain()
    assert service.thread_group.wait(PATIENCE)
