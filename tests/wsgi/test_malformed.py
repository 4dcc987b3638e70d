"""Malformed requests are refused with the right status, and nothing that follows on the connection is believed."""

from __future__ import annotations

import pytest

from tests.wsgi.client import Client, request
from tests.wsgi.malformed import BODIES, CASES

GOOD = request("/hello")
BODY_HEAD = request("/swallow", "Transfer-Encoding: chunked", method="POST")


def check_refused(client: Client, status: int) -> None:
    answer = client.answer()
    assert answer.status == status
    assert answer.closes
    assert answer.headers["content-type"] == "text/plain"
    assert client.rest() == b""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(served, case):
    with served.client() as client:
        client.send(case.data + GOOD)
        check_refused(client, case.status)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_behind_a_good_request(served, case):
    with served.client() as client:
        client.send(GOOD + case.data + GOOD)
        assert client.answer().body == b"Hello, world!"
        check_refused(client, case.status)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_however_it_is_split(served, case):
    for at in range(1, len(case.data)):
        with served.client() as client:
            client.send(case.data[:at])
            client.send(case.data[at:])
            check_refused(client, case.status)


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_a_bad_body_is_refused(served, case):
    with served.client() as client:
        client.send(BODY_HEAD + case.data + GOOD)
        check_refused(client, case.status)


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_a_bad_body_is_refused_behind_a_good_request(served, case):
    with served.client() as client:
        client.send(GOOD + BODY_HEAD + case.data + GOOD)
        assert client.answer().body == b"Hello, world!"
        check_refused(client, case.status)


@pytest.mark.parametrize("case", [case for case in BODIES if len(case.data) < 100], ids=lambda case: case.name)
def test_a_bad_body_is_refused_however_it_is_split(served, case):
    for at in range(1, len(case.data)):
        with served.client() as client:
            client.send(BODY_HEAD + case.data[:at])
            client.send(case.data[at:])
            check_refused(client, case.status)


def test_a_bad_body_that_nobody_reads_ends_the_connection(client):
    client.send(request("/hello", "Transfer-Encoding: chunked", method="POST") + b"x\r\n" + GOOD)
    answer = client.answer()
    assert answer.status == 200
    assert answer.closes
    assert client.rest() == b""


def test_nothing_malformed_has_reached_the_log_as_an_error(start):
    served = start()
    for case in (*CASES, *BODIES):
        with served.client() as client:
            client.send((b"" if case in CASES else BODY_HEAD) + case.data)
            check_refused(client, case.status)
    assert "Traceback" not in served.log()
    served.end()
