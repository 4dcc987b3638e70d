"""What a client gets for what an application answers."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.waiting import until
from tests.wsgi import apps
from tests.wsgi.client import chunked, request

TRANSPORTS = ["plain", "tls"]


@pytest.fixture(scope="module")
def serve_lax(start):
    """Yield a server whose applications nobody checks but the server."""
    found = start(validate=False)
    yield found
    found.end()


def test_a_response_has_date_server_and_length(client):
    answer = client.get("/hello")
    assert answer.status == 200
    assert answer.body == b"Hello, world!"
    assert answer.headers.keys() == {"date", "server", "content-type", "content-length"}
    assert answer.headers["server"] == "forkd"
    assert parsedate_to_datetime(answer.headers["date"]).year > 2000


def test_a_connection_serves_many_requests(client):
    assert [client.get("/hello").body for _ in range(5)] == [b"Hello, world!"] * 5


def test_pipelined_requests_are_answered_in_order(client):
    client.send(b"".join(request(f"/sized/{size}") for size in range(50)))
    assert [len(client.answer().body) for _ in range(50)] == list(range(50))


def test_a_pipelined_body_is_not_taken_for_a_request(client):
    body = request("/fail")
    client.send(request("/echo", method="POST", body=body) + request("/hello"))
    assert client.answer().body == body
    assert client.answer().body == b"Hello, world!"


def test_pieces_of_unknown_length_are_chunked(client):
    client.send(request("/pieces"))
    _, headers = client.head()
    assert headers["transfer-encoding"] == "chunked"
    assert [client.chunk() for _ in range(4)] == [b"one ", b"two ", b"three", b""]
    assert client.get("/hello").status == 200


def test_pieces_of_unknown_length_end_a_connection_of_http_1_0(client):
    answer = client.get("/pieces", "Connection: keep-alive", version="1.0")
    assert answer.closes
    assert answer.body == b"one two three"


def test_http_1_0_is_kept_alive_when_it_asks(client):
    answer = client.get("/hello", "Connection: Keep-Alive", version="1.0")
    assert answer.headers["connection"] == "keep-alive"
    assert client.get("/hello", version="1.0").closes
    assert client.rest() == b""


def test_connection_close_is_heeded(client):
    assert client.get("/hello", "Connection: foo, Close").closes
    assert client.rest() == b""


def test_large_responses_arrive_whole(client):
    assert client.get("/sized/5000000").body == b"x" * 5000000
    assert len(client.get("/closing/large/30").body) == 30 * 65536


@pytest.mark.parametrize("path", ["/hello", "/pieces", "/sized/10", "/file"])
def test_head_has_no_body(client, path):
    expected = client.get(path).headers
    answer = client.get(path, method="HEAD")
    assert answer.status == 200
    assert answer.headers.get("content-length") == expected.get("content-length")
    assert client.get("/hello").body == b"Hello, world!"


@pytest.mark.parametrize("code", ["204", "304"])
def test_statuses_without_a_body(client, code):
    answer = client.get(f"/status/{code}")
    assert answer.status == int(code)
    assert not answer.headers.keys() & {"content-length", "transfer-encoding"}
    assert client.get("/hello").body == b"Hello, world!"


def test_a_body_is_kept_from_a_status_that_has_none(serve_lax):
    with serve_lax.client() as client:
        assert client.get("/status/204/body").status == 204
        assert client.get("/status/304/body").status == 304
        assert client.get("/status/200/body").body == b"body"


def test_the_length_of_a_list_is_known(serve_lax):
    with serve_lax.client() as client:
        assert client.get("/status/200").headers["content-length"] == "0"
        assert client.get("/parts").headers["content-length"] == "13"
        assert client.get("/parts", method="HEAD").headers["content-length"] == "13"
        assert not client.get("/parts", "Connection: keep-alive", version="1.0").closes


def test_write_sends_before_what_is_returned(client):
    assert client.get("/write").body == b"written and returned"


def test_files(client):
    assert client.get("/file").body == b"block" * 30000
    answer = client.get("/source")
    assert answer.body == Path(apps.__file__).read_bytes()
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("how", "status"), [("return", 1), ("fail", 1), ("exit", 0), ("exit-3", 3), ("exit-with-words", 1)]
)
def test_a_process_that_the_application_forks_answers_nobody(served, client, how, status):
    assert client.get(f"/fork/{how}").body == str(status).encode()
    assert client.get("/hello").body == b"Hello, world!"
    if how in ("return", "fail"):
        served.logged(f"GET /fork/{how} came back in a process that it forked, which ends")


@pytest.mark.parametrize("path", ["/fail", "/fail-started", "/fail-exit", "/start-twice", "/never-start"])
def test_an_error_before_the_first_byte_is_a_plain_500(client, served, path):
    client.send(request(path))
    answer = client.answer()
    assert answer.status == 500
    assert answer.closes
    assert answer.body == b"500 Internal Server Error\n"
    assert client.rest() == b""
    assert "Traceback" in served.logged(f"GET {path} failed")


def test_an_error_after_the_first_byte_cuts_the_connection(client, served):
    client.send(request("/fail-late"))
    assert client.head()[0] == 200
    assert client.chunk() == b"the beginning"
    assert client.remains() == b""  # and no last chunk
    assert "the secret cause" in served.logged("GET /fail-late failed")


def test_an_error_in_a_body_that_the_close_delimits_resets_the_connection(client):
    client.send(request("/fail-late", version="1.0"))
    client.head()
    with pytest.raises(ConnectionResetError):
        client.rest()


def test_exc_info_replaces_a_response_that_has_not_begun(client):
    answer = client.get("/exc-info")
    assert answer.status == 500
    assert answer.body == b"sorry"
    assert "x-first" not in answer.headers
    assert answer.headers["x-second"] == "2"


def test_exc_info_is_raised_where_the_response_has_begun(client, served):
    client.send(request("/exc-info-late"))
    client.head()
    assert client.chunk() == b"begun"
    assert client.remains() == b""
    served.logged("ValueError: too late")


def test_fewer_bytes_than_promised_cut_the_connection(client, served):
    client.send(request("/promise/10/4"))
    assert client.head()[1]["content-length"] == "10"
    assert client.remains() == b"xxxx"
    served.logged("GET /promise/10/4: the body differs in length")


def test_no_more_bytes_than_promised_are_sent(client, served):
    client.send(request("/promise/4/10"))
    client.head()
    assert client.remains() == b"xxxx"
    served.logged("GET /promise/4/10: the body differs in length")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Bad", "a\r\nSet-Cookie: b"),
        ("X-Bad", "a\nb"),
        ("X-Bad", "a\rb"),
        ("X-Bad", "a\x00b"),
        ("X-Bad", "a\x7fb"),
        ("X-Bad", "\u20ac"),
        ("X Bad", "a"),
        ("X-Bad:", "a"),
        ("", "a"),
        ("Transfer-Encoding", "chunked"),
        ("Keep-Alive", "timeout=5"),
        ("Content-Length", "+8"),
        ("Content-Length", "8, 8"),
        ("Content-Length", "-1"),
    ],
)
def test_headers_that_would_break_the_framing_are_refused(serve_lax, name, value):
    with serve_lax.client() as client:
        answer = client.get("/header", f"X-Answer: {json.dumps([name, value])}")
    assert answer.status == 500


def test_the_application_may_date_name_and_end(serve_lax):
    with serve_lax.client() as client:
        assert client.get("/header", 'X-Answer: ["Date", "today"]').headers["date"] == "today"
        assert client.get("/header", 'X-Answer: ["Server", "mine"]').headers["server"] == "mine"
        answer = client.get("/header", 'X-Answer: ["Connection", "close"]')
        assert answer.closes
        assert client.rest() == b""


def test_the_iterable_is_closed_once(client):
    client.get("/closing/whole/2")
    assert client.get("/closed/whole").body == b"1"


def test_the_iterable_is_closed_when_the_client_leaves(client, served):
    client.send(request("/closing/left/1000"))
    client.head()
    client.sock.close()
    assert served.get("/closed/left") == b"1"


def test_the_iterable_is_closed_after_a_head(client):
    client.get("/closing/head/1000", method="HEAD")
    assert client.get("/closed/head").body == b"1"


def test_requests_are_counted(serve):
    served = serve()
    with served.client() as client, served.client() as other:
        client.get("/hello")
        client.get("/fail")
        other.send(request("/held/counted"))
        served.get("/await-held/counted")
        # A request counts as finished a moment after the client has its answer.
        counters = until(lambda: found if (found := served.counters())["requests"] == 3 else None)
        assert counters["in_flight"] == 1
        assert counters["errors"] == 1
        assert counters["busy"] > 0
        served.get("/open/counted")
        other.answer()
    until(lambda: served.counters()["in_flight"] == 0)


@pytest.mark.parametrize("sent", [0, 2000000])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_an_answer_before_the_end_of_the_body_is_received(client, connection, sent):
    """A client that still sends must be able to read the answer: no reset may overtake it."""
    client.send(request("/hello", "Content-Length: 4000000", f"Connection: {connection}", method="POST"))
    client.send(b"x" * sent)
    answer = client.answer()
    assert answer.status == 200
    assert answer.closes
    client.send(b"x" * (4000000 - sent))
    assert client.rest() == b""


def test_an_unread_body_that_is_short_does_not_cost_the_connection(client):
    assert not client.get("/hello", "Content-Length: 0").closes
    client.send(request("/hello", method="POST", body=b"x" * 60000) + request("/hello"))
    assert client.answer().status == 200
    assert client.answer().status == 200


def test_an_unread_chunked_body_is_not_taken_for_a_request(client):
    client.send(request("/hello", "Transfer-Encoding: chunked", method="POST") + chunked(request("/fail")))
    assert client.answer().closes
    assert client.rest() == b""
