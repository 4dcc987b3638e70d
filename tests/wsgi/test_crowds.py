"""Crowds, slow ones and rude ones: each ends in bounded time, none costs memory, and who behaves is served meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from tests.waiting import until
from tests.wsgi.client import Client, chunked, request
from tests.wsgi.crowd import BOUND, MIB, grows_no_more, regular
from tests.wsgi.swarm import Swarm

LONG = 60.0  # seconds; never waited for

STALL = "forkd.wsgi.connection.STALL_TIMEOUT"
LINGER_TIMEOUT, LINGER = "forkd.wsgi.connections.LINGER_TIMEOUT", "forkd.wsgi.connections.LONGEST_LINGER"


def test_heads_that_trickle(serve):
    served = serve(options={"header_timeout": 0.5, "keepalive_timeout": LONG}, shorter={LINGER_TIMEOUT: 0.3})
    descriptors = served.descriptors()

    def crowd() -> None:
        with Swarm(served.address) as swarm:
            swarm.grow(1000)
            swarm.say(b"GET /hello HTTP/1.1\r\nHost: test\r\nX-Slow: ")

            def all_ended() -> bool:
                swarm.say(b"x")
                return all(member.ended for member in swarm.members)

            swarm.until(all_ended, "their ends")
            # One that did not begin in time, since this machine is busy, is closed without a word.
            assert b"HTTP/1.1 408 " in {member.got[:13] for member in swarm.members} <= {b"HTTP/1.1 408 ", b""}
            until(lambda: served.descriptors() <= descriptors + 3, 30.0, "the server to have closed them")

    with regular(served):
        grows_no_more(served, crowd)


def test_of_requests_that_come_at_once_those_that_wait_hold_up_none(served):
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(served.client()) for _ in range(20)]
        assert all(member.get("/hello").status == 200 for member in members)
        os.kill(served.pid, signal.SIGSTOP)  # so that it finds them all in one look
        try:
            for member in members[:-1]:
                member.send(request("/held/at-once"))
            members[-1].send(request("/hello"))
        finally:
            os.kill(served.pid, signal.SIGCONT)
        assert members[-1].answer().body == b"Hello, world!"
        served.open_gate("at-once")
        assert [member.answer().body for member in members[:-1]] == [b"let go"] * 19


def test_a_client_that_does_not_take_its_refusal_is_given_up(serve):
    served = serve(shorter={LINGER: 1.5})
    descriptors = served.descriptors()
    with Swarm(served.address) as swarm:
        swarm.grow(100)
        swarm.say(b"nonsense\r\n\r\n")
        swarm.until(lambda: all(member.ended for member in swarm.members), "a refusal for each")

        def given_up() -> bool:
            for member in swarm.members:
                with contextlib.suppress(ConnectionError):
                    member.sock.send(b"x")
            return served.descriptors() <= descriptors

        swarm.until(given_up, "the server to close them, though they go on sending")
    assert served.get("/hello") == b"Hello, world!"


def test_bodies_that_trickle(serve, engine):
    """They hold a thread each, and leave some."""
    served = serve(shorter={STALL: 0.5, LINGER_TIMEOUT: 0.3})
    count = {"eventlet": 800, "threads": 24}[engine]
    descriptors = served.descriptors()

    def crowd() -> None:
        with Swarm(served.address) as swarm:
            members = swarm.grow(count)
            for some, framing in (
                (members[::2], "Content-Length: 100000"),
                (members[1::2], "Transfer-Encoding: chunked"),
            ):
                swarm.say(request("/ticking", framing, method="POST"), some)
            for _ in range(10):
                swarm.say(b"1", members[::2])
                swarm.say(chunked(b"1")[:6], members[1::2])
                swarm.until(lambda: not any(member.unsent for member in members), "a piece of each body sent")
            swarm.until(lambda: all(member.ended for member in members), "their ends")
            assert {member.got[:13] for member in members} == {b"HTTP/1.1 408 "}
        until(lambda: served.descriptors() <= descriptors + 3, 30.0, "the server to have closed them")

    with regular(served):
        grows_no_more(served, crowd)


def test_responses_that_nobody_takes(serve):
    """Each is of 50 MiB; what the kernel does not take stays with the application."""
    served = serve(shorter={STALL: 1.0})
    served.get("/closing/first/800")
    memory = served.memory()
    with regular(served), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(served.address, receives=65536)) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(request(f"/closing/untaken{number}/800"))
            assert client.head()[0] == 200
        for number in range(len(clients)):
            assert served.get(f"/closed/untaken{number}") == b"1"
        assert served.memory() - memory < 20 * MIB
        for client in clients:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.exactly(50 * MIB)
    assert served.get("/hello") == b"Hello, world!"


def test_a_response_that_is_taken_slowly_but_steadily(serve):
    """The kernel tells of room in its buffer late: what counts is that bytes leave it."""
    served = serve(shorter={STALL: 1.0})
    with regular(served), Client(served.address, receives=65536) as client:
        client.send(request("/closing/steady/70"))
        client.head()
        rest = threading.Event()
        size = 0
        while piece := client.chunk():
            size += len(piece)
            rest.wait(0.08)
        assert size == 70 * 65536


def test_more_connections_than_descriptors_by_far(serve):
    """Most of them wait in the kernel, at no cost, and are served when there is room."""
    served = serve(nofile=1024, options={"keepalive_timeout": LONG, "header_timeout": LONG})
    with Swarm(served.address) as swarm:
        first = swarm.grow(960)
        swarm.say(request("/hello"))
        swarm.until(lambda: all(member.answers() for member in first), "an answer to those who come first")
        late = swarm.grow(4040)
        swarm.say(request("/hello", "Connection: close"), late)
        swarm.until(lambda: sum(not member.unsent for member in late) > 1000, "many of the others to wait")
        began, before = time.monotonic(), served.cpu_seconds()
        swarm.until(lambda: time.monotonic() - began > 1.0, "a second")
        assert served.cpu_seconds() - before < 0.25 * (time.monotonic() - began)
        assert not any(member.got for member in late)
        swarm.leave(first)
        swarm.until(lambda: all(member.ended for member in late), "the end of all")
        assert {(member.answers(), member.ended) for member in late} == {(1, "orderly")}
    assert served.get("/hello") == b"Hello, world!"


def test_no_descriptors_at_all(serve):
    """The application has taken more than it can count on; who waits is served when it gives some back."""
    served = serve(nofile=100, options={"keepalive_timeout": LONG, "header_timeout": LONG})
    with Client(served.address) as first, Swarm(served.address) as swarm:
        first.get(f"/hoard/{90 - served.descriptors()}")
        swarm.grow(40)
        swarm.say(request("/hello"))
        swarm.until(lambda: served.descriptors() == 100, "the last descriptor to be taken")
        began, before = time.monotonic(), served.cpu_seconds()
        swarm.until(lambda: time.monotonic() - began > 1.0, "a second")
        assert served.cpu_seconds() - before < 0.25 * (time.monotonic() - began)
        assert not all(member.got for member in swarm.members)
        assert first.get("/hoard/0").status == 200
        swarm.until(lambda: all(member.answers() for member in swarm.members), "an answer to each")


def test_nobody_waits_for_a_full_worker_while_another_has_room(serve):
    """The kernel wakes one of them for a connection: one that has no room for it must not be the one."""
    order = {"share": True, "options": {"keepalive_timeout": LONG}, "shorter": {LINGER_TIMEOUT: 0.05}}
    small = serve(nofile=100, **order)
    large = serve(bind=small.address, **order)
    rest = threading.Event()
    with contextlib.ExitStack() as stack:

        def come() -> None:
            began = time.monotonic()
            assert stack.enter_context(small.client()).get("/hello").status == 200
            assert time.monotonic() - began < BOUND

        while small.counters()["requests"] < 50:  # it has no room for more
            come()
        for _ in range(30):
            rest.wait(0.03)  # so that it looks for room again and again
            come()
        assert small.counters()["requests"] == 50
        assert large.counters()["requests"] >= 30


def test_all_native_threads_stuck(start):
    """Without a thread heads are read all the same: refused, timed out, or kept until there is one."""
    served = start(options={"header_timeout": 1.0}, service={"threads": 32})
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(served.client()) for _ in range(32)]
        for client in stuck:
            client.send(request("/held/stuck"))
        until(lambda: served.counters()["in_flight"] == 32, what="all threads to be taken")
        good, bad, slow = (stack.enter_context(served.client()) for _ in range(3))
        good.send(request("/hello"))
        slow.send(b"GET /hel")
        bad.send(b"nonsense\r\n\r\n")
        assert bad.answer().status == 400
        assert slow.answer().status == 408
        served.open_gate("stuck")
        assert good.answer().status == 200
        assert {client.answer().status for client in stuck} == {200}
    served.end()
