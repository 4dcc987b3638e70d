"""Responses that wait for each other: none waits too long, none is lost, and none is torn."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from fcntl import ioctl
from functools import partial
from pathlib import Path
from termios import FIONREAD
from types import SimpleNamespace
from typing import Any

import pytest

from forkd.crews.native import NativeCrew
from forkd.scoreboard import Board
from forkd.threadgroup import Stopped
from forkd.wsgi import native_engine
from forkd.wsgi.burst import Burst
from forkd.wsgi.connection import BUSY, CLOSED, IDLE, Connection
from forkd.wsgi.connections import Connections
from forkd.wsgi.engine import Reception
from forkd.wsgi.handler import Handler
from forkd.wsgi.intake import Intake
from forkd.wsgi.listener import Listener
from forkd.wsgi.native_engine import NativeLoop
from forkd.wsgi.options import Options
from forkd.wsgi.outlet import Outlet
from tests.waiting import until
from tests.wsgi.client import Client, request

GROUP: Any = SimpleNamespace(limit=1, event=threading.Event, add_loop=lambda _: None, try_thread=None)  # starts nothing
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Ends:
    """Connections whose clients' ends are here."""

    def __init__(self) -> None:
        self._given = socket.create_server(("127.0.0.1", 0))
        self._listener = Listener(self._given, {})
        self._open: list[socket.socket] = []

    def pair(self) -> tuple[Connection, socket.socket]:
        mine, theirs = socket.socketpair()
        self._open += mine, theirs
        mine.setblocking(False)
        theirs.settimeout(20)
        return Connection(mine, ("", ""), self._listener, None), theirs  # type: ignore[arg-type]  # nothing waits here

    def close(self) -> None:
        for sock in self._open:
            sock.close()
        self._listener.close()
        self._given.close()


class Interrupted:
    """A thread's wait for a client, that is ended by something else."""

    def wait(self, *_, **__) -> bool:
        raise Stopped


def handler_of(outlet):
    """Return a handler that gives connections back to nobody who runs, and the intake that it gives them to."""
    handler = Handler(lambda *_: [], Options(), Board(), None, None)
    engine = native_engine.create(GROUP, handler.serve)._replace(outlet=outlet)
    intake = Intake(engine, Options(), Connections(engine.loop, Options(), GROUP.event()), None)
    handler.settle(engine, intake)
    return handler, intake


def loop_that_reads(readable, outlet):
    """Return a loop of native threads that nobody runs, and what is called when its thread is to be replaced."""
    crew: NativeCrew[Connection] = NativeCrew(GROUP, lambda _: None)
    loop = NativeLoop(GROUP, crew, outlet)
    loop.start(Reception(lambda _: None, readable, lambda: None))
    return loop, crew.lane._replace


@pytest.fixture
def ends():
    ends = Ends()
    yield ends
    ends.close()


@pytest.fixture
def slow():
    """Return the connections that were handed to a thread, since their clients are slow."""
    return []


@pytest.fixture(params=[1 << 30, 0], ids=["one by one", "together"])
def outlet(slow, monkeypatch, request):
    """Return one where no response leaves because this machine is busy with others."""
    monkeypatch.setattr("forkd.wsgi.outlet._LONGEST", math.inf)
    monkeypatch.setattr("forkd.wsgi.outlet._FEW", request.param)
    return Outlet(lambda: 0, threading.Lock(), slow.append)


def has_come(sock):
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(20)


def fill(sock):
    size = 0
    try:
        while True:
            size += sock.send(b"x" * 10000)
    except BlockingIOError:
        return size


def has_served(served, count):
    return served.counters()["requests"] == count


def unread(client):
    return int.from_bytes(ioctl(client.sock, FIONREAD, bytes(4)), sys.byteorder)


def exactly(sock, size):
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_what_is_posted_waits_for_the_end_of_the_turn(ends, outlet):
    (one, its_client), (two, other_client) = ends.pair(), ends.pair()
    outlet.open()
    assert outlet.post(one, ANSWER)
    assert outlet.post(two, ANSWER)
    assert not has_come(its_client)
    outlet.close()
    assert its_client.recv(1000) == other_client.recv(1000) == ANSWER


def test_nothing_waits_outside_of_a_turn_or_in_another_thread(ends, slow):
    thread = 1
    outlet = Outlet(lambda: thread, threading.Lock(), slow.append)
    conn, client = ends.pair()
    assert not outlet.post(conn, ANSWER)
    outlet.open()
    thread = 2
    assert not outlet.post(conn, ANSWER)
    thread = 1
    assert outlet.post(conn, ANSWER)
    outlet.close()
    assert client.recv(1000) == ANSWER
    assert not outlet.post(conn, ANSWER)


def test_who_has_lost_the_loop_ends_no_turn_of_another(ends, slow):
    thread = 1
    outlet = Outlet(lambda: thread, threading.Lock(), slow.append)
    conn, client = ends.pair()
    outlet.open()
    thread = 2
    outlet.open()
    thread = 1
    outlet.close()
    thread = 2
    assert outlet.post(conn, ANSWER)
    assert not has_come(client)
    outlet.close()
    assert client.recv(1000) == ANSWER


def test_no_more_wait_than_a_few(ends, outlet):
    pairs = [ends.pair() for _ in range(32)]
    outlet.open()
    for conn, _ in pairs:
        assert not has_come(pairs[0][1])
        assert outlet.post(conn, ANSWER)
    assert all(client.recv(1000) == ANSWER for _, client in pairs)


def test_what_has_waited_long_leaves_with_the_next(ends, outlet, monkeypatch):
    monkeypatch.setattr("forkd.wsgi.outlet._LONGEST", 0.002)
    (one, its_client), (two, other_client) = ends.pair(), ends.pair()
    began = time.monotonic()
    outlet.open()
    assert outlet.post(one, ANSWER)
    until(lambda: time.monotonic() > began + 0.005)
    assert outlet.post(two, ANSWER)
    assert its_client.recv(1000) == other_client.recv(1000) == ANSWER


def test_what_a_client_does_not_take_is_left_to_a_thread(ends, outlet, slow):
    conn, client = ends.pair()
    before = fill(conn.sock)
    outlet.open()
    outlet.post(conn, ANSWER)
    outlet.close()
    assert slow == [conn]
    assert (conn.state, conn.rest, conn.deadline) == (BUSY, ANSWER, math.inf)
    exactly(client, before)


def test_what_a_client_does_not_take_is_kept_for_the_thread_that_is_at_its_request(ends, outlet, slow):
    conn, _ = ends.pair()
    conn.state = BUSY
    fill(conn.sock)
    outlet.open()
    outlet.post(conn, ANSWER)
    assert outlet.take(conn, stays=True) == b"", "it may wait for the end of the turn"
    outlet.close()
    assert slow == []
    assert outlet.take(conn, stays=True) == ANSWER
    conn.state = IDLE
    outlet.flush()
    assert slow == []


def test_before_its_connection_ends_a_response_is_taken(ends, outlet):
    conn, client = ends.pair()
    outlet.open()
    outlet.post(conn, ANSWER)
    assert outlet.take(conn, stays=False) == ANSWER
    outlet.close()
    assert not has_come(client)


def test_of_a_client_that_is_gone_nothing_stays(ends, outlet, slow):
    conn, client = ends.pair()
    client.close()
    outlet.open()
    outlet.post(conn, ANSWER)
    outlet.close()
    assert slow == []
    assert outlet.take(conn, stays=False) == b""


def test_of_a_client_that_closed_half_of_it_the_end_is_read(ends, outlet):
    conn, client = ends.pair()
    client.shutdown(socket.SHUT_RD)
    outlet.open()
    outlet.post(conn, ANSWER)
    outlet.close()
    assert conn.sock.recv(1) == b""


def test_a_request_is_not_read_before_what_is_left_of_the_last_response_is_handed_over(ends, slow):
    thread = 1
    outlet = Outlet(lambda: thread, threading.Lock(), slow.append)
    read: list[Connection] = []
    loop, _ = loop_that_reads(read.append, outlet)
    conn, client = ends.pair()
    loop.watch(conn)
    conn.state = BUSY
    fill(conn.sock)
    outlet.open()
    outlet.post(conn, ANSWER)
    assert outlet.take(conn, stays=True) == b"", "its thread does not know yet that it has lost the loop"
    thread = 2
    outlet.open()
    outlet.flush()
    conn.state = IDLE
    client.send(request("/hello"))
    loop._turn()
    assert read == slow == []
    outlet.flush()
    loop._turn()
    assert (read, slow, conn.rest) == ([], [conn], ANSWER)


def test_what_waits_leaves_before_another_thread_is_found_for_the_loop(ends, outlet):
    _, replace = loop_that_reads(None, outlet)
    conn, client = ends.pair()
    outlet.open()
    outlet.post(conn, ANSWER)
    replace()
    assert client.recv(1000) == ANSWER


def test_whatever_ends_the_wait_for_a_client_ends_the_connection(ends, outlet, slow):
    conn, _ = ends.pair()
    conn.engine = Interrupted()
    fill(conn.sock)
    outlet.open()
    outlet.post(conn, ANSWER)
    outlet.close()
    handler, _ = handler_of(outlet)
    with pytest.raises(Stopped):
        handler.serve(slow.pop())
    assert conn.state == CLOSED


def test_an_answer_is_there_before_the_application_closes_what_it_returned(served, client, engine):
    del engine
    for number in range(3):
        assert client.get(f"/tidying/close-{number}").body == b"ok"
        with served.client() as other:
            assert other.get("/hello").body == b"Hello, world!"
        served.open_gate(f"close-{number}")
    assert client.get("/hello").body == b"Hello, world!"


def test_beside_requests_that_take_long_none_waits_for_them(served, client):
    with served.client() as first, served.client() as other:
        for _ in range(8):  # it has to be seen first, and there may be a pause of others' too
            first.send(request("/busy/0.05"))
            client.send(request("/hello"))
            other.send(request("/busy/0.5"))
            assert client.answer().body == b"Hello, world!"
            came_first = not has_come(other.sock)
            assert other.answer().body == first.answer().body == b"done"
            if came_first:
                break
        else:
            pytest.fail("it waited each time")


def test_who_does_not_read_gets_all_of_what_was_asked_for(serve, tmp_path):
    served = serve(bind=f"unix:{tmp_path}/sock")
    with Client(served.address, receives=4096) as client:
        asked = 0
        while asked < 100:
            client.send(request("/sized/30000"))
            asked += 1
            try:
                until(partial(has_served, served, asked), 1)
            except AssertionError:  # there is no room for more, so it is not read any more
                break
        assert asked < 100
        assert [client.answer().body for _ in range(asked)] == [b"x" * 30000] * asked
        assert client.get("/hello").body == b"Hello, world!"


def test_whoever_gets_the_descriptor_of_a_connection_that_is_closed_gets_none_of_its_response(ends, outlet):
    (gone, _), (conn, client) = ends.pair(), ends.pair()
    outlet.open()
    outlet.post(gone, ANSWER)
    outlet.post(conn, ANSWER)
    gone.sock.close()
    one, other = socket.socketpair()
    with one, other:
        assert gone.fd in (one.fileno(), other.fileno())
        outlet.close()
        assert not has_come(one)
        assert not has_come(other)
    assert client.recv(1000) == ANSWER


def test_one_whose_client_is_slow_or_gone_holds_up_no_other(ends, outlet, slow):
    pairs = [ends.pair() for _ in range(12)]
    before = fill(pairs[3][0].sock)
    pairs[7][1].close()
    outlet.open()
    for conn, _ in pairs:
        outlet.post(conn, ANSWER)
    outlet.close()
    assert [client.recv(1000) for at, (_, client) in enumerate(pairs) if at not in (3, 7)] == [ANSWER] * 10
    assert slow == [pairs[3][0]]
    assert exactly(pairs[3][1], before) == b"x" * before


def sent_by_rings(pid):
    """Return how many sends each io_uring of a process has made, as the kernel tells of its descriptors."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been closed, so it is none
            found |= {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("CqTail:")}
    return found


def test_responses_of_requests_that_came_together_leave_by_one_system_call_if_that_may_be(serve):
    served = serve("hello")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(30)]
        os.kill(served.pid, signal.SIGSTOP)
        for client in clients:
            client.send(request("/"))
        os.kill(served.pid, signal.SIGCONT)
        assert {client.answer().status for client in clients} == {200}
    if Burst().send([(-1, b"")]):
        [sent] = sent_by_rings(served.pid)
        assert sent > 3
    else:
        assert sent_by_rings(served.pid) == set()


def test_no_connection_is_too_old_on_which_a_response_waits(ends, outlet):
    _, intake = handler_of(outlet)
    conn, client = ends.pair()
    conn.state = IDLE
    outlet.open()
    outlet.post(conn, ANSWER)
    intake.expire(conn)
    assert conn.state == IDLE
    outlet.close()
    assert client.recv(1000) == ANSWER
    intake.expire(conn)
    assert conn.state == CLOSED


def test_what_is_left_of_responses_leaves_as_soon_as_their_clients_read(serve, tmp_path):
    # Nothing else happens in the server that could bring it on.
    hardly_ever = {"forkd.wsgi.connections.LINGER_TIMEOUT": 300.0}
    patient = {"keepalive_timeout": 300.0, "header_timeout": 300.0}
    served = serve(bind=f"unix:{tmp_path}/sock", options=patient, shorter=hardly_ever)
    with Client(served.address, receives=4096) as one, Client(served.address, receives=4096) as other:
        asked = 0
        while asked < 100:
            os.kill(served.pid, signal.SIGSTOP)  # they come together
            for client in (one, other):
                client.send(request("/sized/30000"))
            os.kill(served.pid, signal.SIGCONT)
            asked += 1
            try:
                until(lambda: min(unread(one), unread(other)) > 30000 * asked, 1)  # noqa: B023 -- it is over by then
            except AssertionError:  # there is no room for all of it
                break
        assert asked < 100
        for client in (one, other):
            assert [client.answer().body for _ in range(asked)] == [b"x" * 30000] * asked


COLLECTS = """
import gc
from types import SimpleNamespace
from forkd.wsgi.eventlet_engine import create

lock = create(SimpleNamespace(limit=10, try_thread=None), print).outlet._lock
for before in True, False:
    (gc.enable if before else gc.disable)()
    with lock:
        assert not gc.isenabled()
    assert gc.isenabled() == before
"""


def test_while_green_threads_send_no_garbage_is_collected_whose_finalizers_may_give_way():
    subprocess.run([sys.executable, "-W", "ignore", "-c", COLLECTS], check=True)
