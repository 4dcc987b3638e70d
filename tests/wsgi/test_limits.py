"""Limits, at the limit and one past it; slow clients; too many of them."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.waiting import until
from tests.wsgi.client import chunked, request

TRANSPORTS = ["plain", "tls"]
LONG = 60.0  # seconds; never waited for


def line_of(size: int) -> bytes:
    """Return a good request whose line has `size` bytes."""
    return request("/hello?" + "x" * (size - len("GET /hello? HTTP/1.1")))


def head_of(size: int) -> bytes:
    """Return a good request whose head has `size` bytes."""
    return request("/hello", "X: " + "x" * (size - len(request("/hello", "X: "))))


@pytest.fixture(scope="module")
def limited(start):
    found = start(options={"request_line_limit": 100, "header_limit": 500, "body_limit": 1000})
    yield found
    found.end()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (line_of(100), 200),
        (line_of(101), 414),
        (line_of(499), 414),
        (line_of(5000), 414),
        (b"GET /" + b"x" * 97, 414),
        (head_of(500), 200),
        (head_of(501), 431),
        (head_of(5000), 431),
        (request("/hello", "X: " + "x" * 500)[:500], 431),
        (request("/hello", *[f"X{index}: 1" for index in range(20)]), 200),
    ],
)
def test_heads_at_the_limit_and_past_it(limited, data, status):
    with limited.client() as client:
        client.send(data)
        answer = client.answer()
    assert answer.status == status
    assert answer.closes == (status != 200)


def test_a_line_that_is_too_long_is_refused_before_its_end(limited):
    with limited.client() as client:
        for byte in line_of(102)[:102]:
            client.send(bytes([byte]))
        assert client.answer().status == 414


@pytest.mark.parametrize(("count", "status"), [(99, 200), (100, 431)])
def test_the_number_of_headers(client, count, status):
    assert client.get("/hello", *[f"X-{index}: 1" for index in range(count)]).status == status


@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 400)])
def test_the_length_of_a_host(client, size, status):
    client.send(f"GET /hello HTTP/1.1\r\nHost: {'a' * size}\r\n\r\n".encode())
    assert client.answer().status == status


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (10**15, 413)])
def test_bodies_at_the_limit_and_past_it(limited, size, status):
    with limited.client() as client:
        client.send(request("/echo", f"Content-Length: {size}", method="POST") + b"x" * min(size, 1001))
        answer = client.answer()
    assert answer.status == status
    assert answer.closes == (status != 200)


@pytest.mark.parametrize(("sizes", "status"), [((600, 400), 200), ((600, 401), 413), ((1001,), 413)])
def test_chunked_bodies_at_the_limit_and_past_it(limited, sizes, status):
    chunks = chunked(*[b"x" * size for size in sizes])
    with limited.client() as client:
        client.send(request("/echo", "Transfer-Encoding: chunked", method="POST") + chunks)
        answer = client.answer()
    assert answer.status == status
    assert answer.closes == (status != 200)


def test_a_body_is_refused_before_it_is_sent(limited):
    with limited.client() as client:
        answer = client.get("/echo", "Content-Length: 1001", "Expect: 100-continue", method="POST")
    assert (answer.status, answer.interim) == (413, 0)


@pytest.mark.parametrize("start_of_head", [b"GET /hello HT", request("/hello")[:-2]])
def test_a_slow_head_times_out(serve, start_of_head):
    with serve(options={"header_timeout": 0.5}).client() as client:
        client.send(start_of_head)
        assert client.answer().status == 408
        assert client.rest() == b""


def test_a_head_that_trickles_times_out(serve):
    """Each byte must not win the client new time."""
    with serve(options={"header_timeout": 0.5}).client() as client:
        began = time.monotonic()
        client.sock.settimeout(0.05)
        trickle = iter(request("/hello", "X: " + "x" * 1000))

        def answered() -> bytes:
            with contextlib.suppress(TimeoutError):
                return client.sock.recv(1000)
            client.send(bytes([next(trickle)]))
            return b""

        assert until(answered, timeout=30).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 20  # of the 50 that the whole head would take


def test_a_client_that_says_nothing_is_closed_silently(serve):
    with serve(options={"header_timeout": 0.2, "keepalive_timeout": LONG}).client() as client:
        assert client.rest() == b""


def test_an_idle_connection_is_closed_silently(serve):
    with serve(options={"header_timeout": LONG, "keepalive_timeout": 0.3}).client() as client:
        began = time.monotonic()
        client.get("/hello")
        assert client.rest() == b""
        assert 0.2 < time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("with_the_request", [True, False])
def test_empty_lines_begin_no_request(serve, with_the_request):
    """A client that ends a body with one gets no 408, which it could take for the answer to its next request."""
    with serve(options={"header_timeout": LONG, "keepalive_timeout": 0.3}).client() as client:
        client.send(request("/hello", method="POST", body=b"x") + b"\r\n" * with_the_request)
        assert client.answer().status == 200
        client.send(b"\r\n" * (not with_the_request))
        began = time.monotonic()
        assert client.rest() == b""
        assert time.monotonic() - began < LONG / 2


def test_empty_lines_are_counted_however_they_come(client):
    for _ in range(10):
        for byte in b"\r\n" * 2:
            client.send(bytes([byte]))
    assert client.get("/hello").status == 200
    for byte in b"\r\n" * 21:
        client.send(bytes([byte]))
    assert client.answer().status == 400


def test_a_busy_connection_is_not_idle(serve):
    served = serve(options={"header_timeout": 0.5, "keepalive_timeout": 0.5})
    with served.client() as client, served.client() as other:
        client.send(request("/held/long"))
        served.get("/await-held/long")
        other.get("/hello")
        other.rest()  # for as long as its keep-alive takes, the first one is served
        served.get("/open/long")
        assert client.answer().body == b"let go"


def test_keep_alive_can_be_turned_off(serve):
    with serve(options={"keepalive_timeout": 0}).client() as client:
        assert client.get("/hello").closes
        assert client.rest() == b""


def test_a_lingering_client_is_given_up(serve):
    """One that was refused and neither reads nor closes costs nothing for long."""
    served = serve(options={"keepalive_timeout": 0.2})
    with served.client() as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
        served.drain()
        served.stopped()


def test_slow_clients_block_nobody(serve):
    """As many as there are threads send half a head, half a body, or do not take the response."""
    served = serve(service={"threads": 4})
    with contextlib.ExitStack() as stack:
        heads, idle, readers = ([stack.enter_context(served.client()) for _ in range(3)] for _ in range(3))
        for client in heads:
            client.send(request("/hello")[:-2])
        for client in idle:
            client.get("/hello")
        for number, client in enumerate(readers):
            client.send(request(f"/closing/slow{number}/1000"))
            client.head()
        assert [served.get("/hello") for _ in range(20)] == [b"Hello, world!"] * 20
        for client in heads:
            client.send(b"\r\n")
            assert client.answer().status == 200


def test_more_requests_than_threads_wait_their_turn(serve):
    served = serve(service={"threads": 2})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(10)]
        for client in clients[:2]:
            client.send(request("/held/turn"))
        for client in clients[2:]:
            client.send(request("/hello"))
        # Both threads are held: what is refused without one is refused all the same, and time goes on.
        with served.client() as bad:
            bad.send(b"nonsense\r\n\r\n")
            assert bad.answer().status == 400
        until(lambda: served.counters()["in_flight"] == 2)
        served.open_gate("turn")
        assert [client.answer().status for client in clients] == [200] * 10


def test_one_thread_serves_everybody(serve):
    served = serve(service={"threads": 1})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(5)]
        for client in clients:
            client.send(request("/hello") * 3)
        assert [client.answer().status for client in clients for _ in range(3)] == [200] * 15
        assert json.loads(clients[0].get("/environ").body)["wsgi.multithread"] is False


@pytest.mark.parametrize("transport", ["plain"], indirect=True)  # over TLS a client in the queue cannot send yet
def test_more_connections_than_descriptors(serve):
    """Those for whom there is no room wait in the kernel's queue; the others are served, and make room."""
    served = serve(nofile=100, options={"keepalive_timeout": LONG, "header_timeout": LONG})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(150)]
        for client in clients:
            client.send(request("/hello", "Connection: close"))
        for client in clients:
            assert client.answer().status == 200
            client.sock.close()
        assert served.get("/hello") == b"Hello, world!"


def test_idle_connections_beyond_the_room_do_not_spin(serve):
    served = serve(nofile=100, options={"keepalive_timeout": 1.0, "header_timeout": 1.0})
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(served.client())
        with served.client() as late:
            late.send(request("/hello"))
            assert late.answer().status == 200  # when the silent ones have been closed
        assert served.cpu_seconds() < 1.0


def test_a_burst_of_connections_is_served(served):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(300)]
        for client in clients:
            client.send(request("/hello"))
        assert [client.answer().status for client in clients] == [200] * 300


def test_bytes_that_nobody_wants_yet_do_not_spin(serve):
    served = serve(options={"keepalive_timeout": 1.0})
    with served.client() as client, served.client() as clock:
        client.send(request("/held/spin"))
        served.get("/await-held/spin")
        client.send(request("/hello") * 2)
        clock.get("/hello")
        before = served.cpu_seconds()
        clock.rest()  # a second later
        assert served.cpu_seconds() - before < 0.4
        served.open_gate("spin")
        assert [client.answer().status for _ in range(3)] == [200] * 3


def test_an_idle_connection_does_not_wake_the_server_often(serve):
    served = serve(options={"keepalive_timeout": 1.0})
    with served.client() as client:
        client.get("/hello")
        before = served.cpu_seconds()
        client.rest()
        assert served.cpu_seconds() - before < 0.2
