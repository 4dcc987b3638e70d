"""What an application sees of a request: its environ, and its body."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.wsgi.client import Client, chunked, request

TRANSPORTS = ["plain", "tls"]
CHUNKED = "Transfer-Encoding: chunked"


def environ(client: Client, path: str, *headers: str, **more) -> dict:
    answer = client.get(f"/environ{path}", *headers, **more)
    assert answer.status == 200
    return json.loads(answer.body)


def test_the_environ_of_a_plain_request(client, served):
    host, _, port = served.address.rpartition(":")
    found = environ(client, "/a%20b//c%2Fd?x=%20&y", "User-Agent: test", "X-Thing: one", "Content-Type: text/css")
    assert found["REQUEST_METHOD"] == "GET"
    assert found["SCRIPT_NAME"] == ""
    assert found["PATH_INFO"] == "/environ/a b//c/d"
    assert found["QUERY_STRING"] == "x=%20&y"
    assert found["RAW_URI"] == "/environ/a%20b//c%2Fd?x=%20&y"
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (host, port)
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (host, str(client.sock.getsockname()[1]))
    assert found["HTTP_HOST"] == "test"
    assert found["HTTP_USER_AGENT"] == "test"
    assert found["HTTP_X_THING"] == "one"
    assert found["CONTENT_TYPE"] == "text/css"
    assert "HTTP_CONTENT_TYPE" not in found
    assert found["wsgi.url_scheme"] == served.url.partition(":")[0]
    assert found["wsgi.input_terminated"] is True
    assert found["SERVER_SOFTWARE"].startswith("forkd/")


def test_bytes_outside_ascii_come_as_latin_1(client):
    found = environ(client, "/%C3%BC", "X-Name: \u00fc")
    assert found["PATH_INFO"] == "/environ/\u00c3\u00bc"
    assert found["HTTP_X_NAME"] == "\u00fc"


def test_repeated_headers_are_joined(client):
    found = environ(client, "", "Accept: a", "Cookie: x=1", "Accept: b", "Cookie: y=2")
    assert found["HTTP_ACCEPT"] == "a,b"
    assert found["HTTP_COOKIE"] == "x=1; y=2"


@pytest.mark.parametrize("name", ["X_Forwarded_For", "X-Forwarded_For", "_X", "Content_Length", "Proxy", "proxy"])
def test_headers_that_could_be_mistaken_are_dropped(client, name):
    found = environ(client, "", f"{name}: 1", "X-Other: 2")
    assert found["HTTP_X_OTHER"] == "2"
    assert not found.keys() & {f"HTTP_{name.upper().replace('-', '_')}", "CONTENT_LENGTH"}


@pytest.mark.parametrize(
    "option", ["Connection: close", "Proxy-Connection: close", "Connection: upgrade\r\nUpgrade: x"]
)
def test_what_a_client_says_of_its_connection_is_of_no_other(served, client, option):
    """One parser reads the heads of all connections."""
    for _ in range(3):
        served.get("/hello", *option.split("\r\n"))
        assert client.get("/hello").status == 200


def test_white_space_around_a_value_is_no_part_of_it(client):
    assert environ(client, "", "X-Thing:\t one two \t ")["HTTP_X_THING"] == "one two"


def test_an_absolute_target_brings_its_own_host(client):
    client.send(request("http://example.org:81/environ/x?y"))
    found = json.loads(client.answer().body)
    assert found["PATH_INFO"] == "/environ/x"
    assert found["QUERY_STRING"] == "y"
    assert found["HTTP_HOST"] == "example.org:81"


def test_the_asterisk_of_options(start):
    served = start("target", validate=False)
    with served.client() as client:
        assert client.get("*", method="OPTIONS").body == b"OPTIONS|"
    served.end()


def test_a_unix_socket(serve, short_tmp):
    served = serve(bind=[f"unix:{short_tmp}/a", "127.0.0.1:0"])
    assert served.addresses[0] == f"unix:{short_tmp}/a"
    for address in served.addresses:
        with Client(address, tls=served.tls) as client:
            assert environ(client, "")["REMOTE_ADDR"] == ("" if address.startswith("unix:") else "127.0.0.1")
    served.drain_all()
    served.stopped()
    assert not Path(f"{short_tmp}/a").exists()


def test_ipv6(serve):
    served = serve(bind="[::1]:0")
    with served.client() as client:
        found = environ(client, "")
    assert (found["REMOTE_ADDR"], found["SERVER_NAME"]) == ("::1", "::1")


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("read:3,read:3,read:100,read:1", ["one", "\ntw", "o\n\nthree", ""]),
        ("readline,readline,readline,readline,readline", ["one\n", "two\n", "\n", "three", ""]),
        ("readline:2,readline:9,readline:0,readlines", ["on", "e\n", "", ["two\n", "\n", "three"]]),
        ("readlines:5,read:2,read:100", [["one\n", "two\n"], "\nt", "hree"]),
    ],
)
def test_input_can_be_read_in_every_way(start, sized, calls, expected):
    body = b"one\ntwo\n\nthree"
    served = start(validate=False)
    with served.client() as client:
        for size in (1, 4, 5, 100):
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            if sized:
                client.send(request(f"/reads?{calls}", f"Content-Length: {len(body)}", method="POST"))
                for piece in pieces:
                    client.send(piece)
            else:
                client.send(request(f"/reads?{calls}", CHUNKED, method="POST") + chunked(*pieces))
            assert json.loads(client.answer().body) == expected
    served.end()


def test_input_is_empty_without_a_body(client):
    assert client.get("/echo").body == b""
    assert json.loads(client.get("/lines").body) == []


def test_lines_of_a_body(client):
    client.send(request("/lines", method="POST", body=b"a\nb\nc"))
    assert json.loads(client.answer().body) == ["a\n", "b\n", "c"]


def test_a_large_body_arrives_whole_in_bounded_memory(client):
    block = b"0123456789abcdef" * 4096
    client.send(request("/ticking", f"Content-Length: {len(block) * 100}", method="POST"))
    for _ in range(100):
        client.send(block)
    assert client.answer().body == str(len(block) * 100).encode()
    client.send(request("/ticking", CHUNKED, method="POST") + chunked(*[block] * 50))
    assert client.answer().body == str(len(block) * 50).encode()


def test_chunk_extensions_and_trailers_are_dropped(client):
    body = b"3;name=value\r\nabc\r\n0003\r\ndef\r\n0;x\r\nX-Trailer: 1\r\nHost: other\r\n\r\n"
    client.send(request("/echo", CHUNKED, method="POST") + body + request("/hello"))
    assert client.answer().body == b"abcdef"
    assert client.answer().body == b"Hello, world!"


def test_continue_is_sent_when_the_application_reads(client):
    client.send(request("/echo", "Content-Length: 4", "Expect: 100-Continue", method="POST"))
    assert client.head() == (100, {})
    client.send(b"body")
    answer = client.answer()
    assert answer.body == b"body"
    assert not answer.closes


def test_continue_is_not_sent_for_a_body_that_nobody_wants(client):
    client.send(request("/hello", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    answer = client.answer()
    assert (answer.status, answer.interim) == (200, 0)
    assert answer.closes
    assert client.rest() == b""


def test_continue_is_not_sent_to_who_does_not_wait_for_it(client):
    client.send(request("/echo", "Expect: 100-continue", method="POST", body=b"body"))
    assert client.answer().body == b"body"


def test_who_has_begun_to_send_waits_for_nothing(client):
    client.send(request("/hello", "Content-Length: 8", "Expect: 100-continue", method="POST") + b"half")
    answer = client.answer()
    assert (answer.status, answer.closes) == (200, False)
    client.send(b"rest" + request("/hello"))
    assert client.answer().status == 200


def test_nothing_is_expected_without_a_body(client):
    assert client.get("/hello", "Expect: 100-continue").interim == 0


def test_a_client_that_leaves_in_the_middle_of_a_body_disturbs_nobody(client, served):
    client.send(request("/echo", "Content-Length: 100", method="POST") + b"some")
    client.sock.close()
    assert served.get("/hello") == b"Hello, world!"


@pytest.mark.parametrize("cut", [b"", b"5", b"5\r\n", b"5\r\nab", b"5\r\nabcde", b"5\r\nabcde\r\n0\r\n"])
def test_half_a_body_is_no_body(served, cut):
    """An application must never take a body that was cut off for a whole one."""
    with served.client() as client:
        client.send(request("/swallow", CHUNKED, method="POST") + cut)
        client.sock.shutdown(1)
        assert client.remains() == b""


def test_every_split_of_a_request_is_the_same_request(client):
    whole = request("/echo", "X-Thing: one", "Transfer-Encoding: chunked", method="POST") + chunked(b"abc", b"de")
    for at in range(1, len(whole)):
        client.send(whole[:at])
        client.send(whole[at:])
        assert client.answer().body == b"abcde"


def test_a_request_may_come_byte_by_byte(client):
    for byte in request("/echo", "X-Thing: one", method="POST", body=b"the body"):
        client.send(bytes([byte]))
    assert client.answer().body == b"the body"


def test_empty_lines_before_a_request_are_skipped(client):
    client.send(b"\r\n" + request("/hello"))
    assert client.answer().status == 200
    client.send(b"\r\n\r\n")
    client.send(b"\r\n" + request("/hello"))
    assert client.answer().status == 200


def test_quick_requests_cost_no_thread_beside_those_that_watch(serve):
    served = serve()

    def threads() -> int:
        return len(os.listdir(f"/proc/{served.pid}/task"))

    before = threads()
    with served.client() as client:
        for _ in range(20):
            assert client.get("/hello").status == 200
    assert threads() == before
