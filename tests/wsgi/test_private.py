"""The private listener of a worker: it answers as long as the worker is well, however busy."""

from __future__ import annotations

import contextlib

from tests.waiting import until
from tests.wsgi.client import Client


def test_it_serves_the_application_and_counts_nothing(serve, short_tmp):
    served = serve(private=str(short_tmp / "sock"))
    for path, status in (("/hello", 200), ("/status/503", 503)):
        with Client(f"unix:{short_tmp}/sock") as client:
            assert client.get(path).status == status
    served.get("/hello")
    counters = until(lambda: (found := served.counters())["requests"] and found, what="the end of the request")
    assert (counters["requests"], counters["in_flight"], counters["errors"]) == (1, 0, 0)


def test_it_answers_when_there_is_no_room_for_another_connection(serve, short_tmp):
    served = serve(nofile=100, options={"keepalive_timeout": 60.0}, private=str(short_tmp / "sock"))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(60)]
        for client in clients[:40]:
            assert client.get("/hello").status == 200
        for _ in range(3):
            with Client(f"unix:{short_tmp}/sock") as client:
                assert client.get("/hello", "Connection: close").status == 200


def test_it_goes_before_requests_that_wait_for_a_thread(serve, short_tmp):
    served = serve(service={"threads": 1}, private=str(short_tmp / "sock"))
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(served.client()) for _ in range(2))
        first.send(b"GET /held/first HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: served.counters()["in_flight"] == 1, what="the first request")
        second.send(b"GET /held/second HTTP/1.1\r\nHost: a\r\n\r\n")
        asker = stack.enter_context(Client(f"unix:{short_tmp}/sock"))
        asker.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(2):  # by the second refusal the loop has read everything that was sent before the first
            with served.client() as client:
                client.send(b"nonsense\r\n\r\n")
                assert client.answer().status == 400
        served.open_gate("first")
        assert first.answer().status == 200
        assert asker.answer().status == 200  # though the second one is held yet
        served.open_gate("second")
        assert second.answer().status == 200
