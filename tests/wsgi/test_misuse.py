"""What an application does that it should not costs its own request, and no other one."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.wsgi.client import request


@pytest.fixture(scope="module")
def misused(start):
    found = start("tests.wsgi.misuse:app")
    yield found
    found.end()


@pytest.mark.parametrize("path", ["/fail-by-itself", "/fail-in-a-circle", "/fail-without-an-environ"])
def test_however_it_fails_it_is_a_plain_500(misused, path):
    with misused.client() as client:
        answer = client.get(path)
    assert (answer.status, answer.closes) == (500, True)
    assert b"secret" not in answer.body
    misused.logged(f"GET {path} failed")
    assert "the loop stumbled" not in misused.log()


def test_the_answer_to_head_has_no_body_though_it_failed(misused):
    with misused.client() as client:
        answer = client.get("/fail-by-itself", method="HEAD")
        assert (answer.status, answer.headers["content-length"]) == (500, "26")
        assert client.rest() == b""


@pytest.mark.parametrize("path", ["/endless", "/endless-writes"])
def test_no_more_is_asked_for_than_was_promised(misused, path):
    with misused.client() as client:
        client.send(request(path))
        client.head()
        assert client.remains() == b"12345"
    assert misused.get("/fine") == b"fine"


def test_the_length_of_an_empty_response_is_left_out_alone(misused):
    with misused.client() as client:
        headers = client.get("/empty-with-a-length").headers
        assert "content-length" not in headers
        assert (headers["x-content-length"], headers["x-last"]) == ("0", "1")
        assert client.get("/fine").body == b"fine"


def test_nothing_is_written_or_read_when_a_request_is_over(misused):
    with misused.client() as client, misused.client() as other:
        assert client.get("/keep").body == b"kept"
        assert other.get("/use").body == b"ValueError b''"
        assert client.get("/fine").body == b"fine"


def test_a_body_that_was_left_is_out_of_reach(misused):
    with misused.client() as client:
        client.send(request("/keep", "Content-Length: 100000", method="POST") + b"some")
        assert client.answer().closes
        assert misused.get("/use") == b"ValueError ClientGone"


def test_of_two_threads_one_reads(misused):
    with misused.client() as client:
        client.send(request("/read-twice", "Content-Length: 10", method="POST"))
        misused.get("/await-failure")
        client.send(b"0123456789")
        assert client.answer().body == b"RuntimeError b'01234'"
        assert client.get("/fine").body == b"fine"


def test_garbage_that_gives_way_mixes_up_no_answers(serve):
    littered = serve("tests.wsgi.misuse:app")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(littered.client()) for _ in range(100)]
        for turn in range(40):
            os.kill(littered.pid, signal.SIGSTOP)  # they come together
            for number, client in enumerate(clients):
                client.send(request(f"/litter?{turn}-{number}"))
            os.kill(littered.pid, signal.SIGCONT)
            answers = [client.answer().body.decode() for client in clients]
            assert answers == [f"{turn}-{number}" for number in range(100)]
