"""Malformed requests are refused with the right status, and nothing that follows on the connection is believed."""

from __future__ import annotations

import pytest

from tests.wsgi.client import Client, request
from tests.wsgi.corpus import BODIES, MALFORMED
from tests.wsgi.exchange import exchange, halves

GOOD = request("/hello")
BODY_HEAD = request("/swallow", "Transfer-Encoding: chunked", method="POST")
SHORT = 100  # bytes of a body that is split at each of them


def check_refused(client: Client, status: int) -> None:
    answer = client.answer()
    assert answer.status == status
    assert answer.closes
    assert answer.headers["content-type"] == "text/plain"
    assert client.rest() == b""


def check_between_good_ones(served, data: bytes, status: int) -> None:
    with served.client() as client:
        client.send(data + GOOD)
        check_refused(client, status)
    with served.client() as client:
        client.send(GOOD + data + GOOD)
        assert client.answer().body == b"Hello, world!"
        check_refused(client, status)


def check_all_refused(answers: list[bytes], status: int) -> None:
    assert {answer.partition(b"\r\n")[0].split()[1] for answer in answers} == {b"%d" % status}
    # Nothing but one answer: the Date alone may differ.
    assert {
        (len(answer), answer.count(b"HTTP/"), answer.count(b"\r\nConnection: close\r\n")) for answer in answers
    } == {(len(answers[0]), 1, 1)}


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_refused_first_and_behind_a_good_request(served, case):
    check_between_good_ones(served, case.data, case.status)


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_refused_however_it_is_split(served, case):
    check_all_refused(exchange(served.address, halves(case.data)), case.status)


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_a_bad_body_is_refused_first_and_behind_a_good_request(served, case):
    check_between_good_ones(served, BODY_HEAD + case.data, case.status)


@pytest.mark.parametrize("case", [case for case in BODIES if len(case.data) < SHORT], ids=lambda case: case.name)
def test_a_bad_body_is_refused_however_it_is_split(served, case):
    check_all_refused(exchange(served.address, halves(case.data, before=BODY_HEAD)), case.status)


@pytest.mark.parametrize("line", [b"GET /fail\r\n", b"GET  /fail HTTP/1.1\r\n"])
def test_a_bad_line_is_refused_at_once(client, line):
    """Who speaks HTTP/0.9 sends no more than that."""
    client.send(line)
    check_refused(client, 400)


def test_a_bad_body_that_nobody_reads_ends_the_connection(client):
    client.send(request("/hello", "Transfer-Encoding: chunked", method="POST") + b"x\r\n" + GOOD)
    answer = client.answer()
    assert answer.status == 200
    assert answer.closes
    assert client.rest() == b""


def test_nothing_malformed_has_reached_the_log_as_an_error(start):
    served = start()
    for case in (*MALFORMED, *BODIES):
        with served.client() as client:
            client.send((b"" if case in MALFORMED else BODY_HEAD) + case.data)
            check_refused(client, case.status)
    assert "Traceback" not in served.log()
    served.end()
