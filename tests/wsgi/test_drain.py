"""A graceful stop as clients see it: none of them gets an error, and none holds it up."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from tests.wsgi.client import chunked, request
from tests.wsgi.takeover import check_takeover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.wsgi.client import Client

TRANSPORTS = ["plain", "tls"]
LONG = 60.0  # seconds; never waited for
SHORT = 0.3


def test_a_server_without_clients_stops_at_once(serve):
    served = serve(options={"keepalive_timeout": LONG})
    served.drain()
    served.stopped()


def test_a_request_in_flight_is_finished(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client, served.client() as opener:
        client.send(request("/held/flight"))
        served.get("/await-held/flight")
        opener.get("/hello")
        served.drain()
        assert opener.get("/open/flight").closes
        answer = client.answer()
        assert answer.body == b"let go"
        assert answer.closes
        assert client.rest() == b""
    served.stopped()


def test_a_response_in_flight_is_finished(serve):
    """Its head has promised to keep the connection; a request after it is served too, and told that it is the last."""
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client, served.client() as opener:
        client.send(request("/gated/stream"))
        assert "connection" not in client.head()[1]
        assert client.chunk() == b"begun"
        opener.get("/hello")
        served.drain()
        opener.get("/open/stream")
        assert [client.chunk(), client.chunk()] == [b"done", b""]
        assert client.get("/hello").closes
        assert client.rest() == b""
    served.stopped()


def test_an_upload_in_flight_is_finished(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client:
        client.send(request("/echo", "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST"))
        client.head()
        served.drain()
        client.send(chunked(b"one ", b"two"))
        answer = client.answer()
        assert answer.body == b"one two"
        assert answer.closes
    served.stopped()


def test_who_was_refused_and_sends_on_holds_a_drain_no_longer_than_half_of_its_time(serve):
    served = serve(stop_timeout=2)
    with served.client() as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
        served.drain()
        until(lambda: ends(client), what="its end")
    served.stopped()
    assert "still busy" not in served.log()


def ends(client: Client) -> bool:
    """Send a byte more; return whether the connection has ended."""
    try:
        client.send(b"x")
    except OSError:
        return True
    return False


def test_half_a_head_is_finished(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client:
        client.get("/hello")
        client.send(request("/hello")[:-2])
        served.drain()
        client.send(b"\r\n")
        assert client.answer().closes
    served.stopped()


def test_the_next_request_of_an_idle_connection_is_served_and_the_last(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(5)]
        for client in clients:
            assert not client.get("/hello").closes
        served.drain()
        for client in clients:
            assert client.get("/hello").closes
            assert client.rest() == b""
            client.sock.close()
        served.stopped()


def test_what_is_pipelined_is_answered_until_the_last_response_says_so(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client, served.client() as opener:
        client.send(request("/held/pipe") + request("/hello") + request("/hello"))
        served.get("/await-held/pipe")
        opener.get("/hello")
        served.drain()
        opener.get("/open/pipe")
        assert client.answer().closes
        assert client.rest() == b""  # and no reset, though there were requests behind it
    served.stopped()


def test_idle_connections_hold_a_drain_no_longer_than_their_time(serve):
    served = serve(options={"keepalive_timeout": SHORT, "header_timeout": LONG})
    with served.client() as client:
        client.get("/hello")
        began = time.monotonic()
        served.drain()
        served.stopped()
        assert time.monotonic() - began < LONG / 2
        assert client.rest() == b""


def test_idle_connections_hold_a_drain_no_longer_than_half_of_its_time(serve):
    served = serve(options={"keepalive_timeout": LONG}, stop_timeout=4)
    with served.client() as client:
        client.get("/hello")
        served.drain()
        served.stopped()
        assert client.rest() == b""
    assert "still busy" not in served.log()


def test_a_connection_that_was_never_used_does_not_hold_a_drain(serve):
    served = serve(options={"keepalive_timeout": SHORT, "header_timeout": LONG})
    with served.client() as client:
        served.get("/hello")  # accepted after the other one
        served.drain()
        served.stopped()
        assert client.rest() == b""


def test_a_connection_made_just_before_the_drain_is_served(serve):
    """It may be in the kernel's queue still, or its request on the way."""
    served = serve(options={"keepalive_timeout": LONG})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(50)]
        served.drain()
        for client in clients:
            client.send(request("/hello"))
        assert [client.answer().closes for client in clients] == [True] * 50
    served.stopped()


def test_a_stop_at_once_cuts_everything(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as held, served.client() as idle, served.client() as streaming:
        held.send(request("/held/cut"))
        served.get("/await-held/cut")
        idle.get("/hello")
        streaming.send(request("/closing/cut/100000"))
        streaming.head()
        served.cut()
        assert idle.rest() == b""
        for client in (held, streaming):
            with contextlib.suppress(ConnectionResetError):
                client.remains()
        served.open_gate("cut")
        served.stopped()


def test_a_stop_at_once_ends_a_drain(serve):
    served = serve(options={"keepalive_timeout": LONG})
    with served.client() as client:
        client.get("/hello")
        served.drain()
        served.cut()
        served.stopped()
        assert client.rest() == b""


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_successor_takes_over_without_a_failed_request(serve, keep_alive):
    """Clients that keep asking, by kept connections or new ones, see old and new server, and no error."""
    old = serve(share=True, options={"keepalive_timeout": LONG})
    new = serve(share=True, bind=old.address, options={"keepalive_timeout": LONG})

    def ask(stop: threading.Event) -> Iterator[None]:
        client = old.client()
        try:
            while not stop.is_set():
                answer = client.get("/hello", *([] if keep_alive else ["Connection: close"]))
                assert answer.status == 200
                yield
                if answer.closes:
                    assert client.rest() == b""
                    client.sock.close()
                    client = old.client()
        finally:
            client.sock.close()

    check_takeover(old, new, ask, clients=4, answers=20)
