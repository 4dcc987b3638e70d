"""Odd but legal requests are served, and mean exactly one thing, whatever is before, behind, or between their bytes."""

from __future__ import annotations

import json
import socket

import pytest

from tests.wsgi import recorder
from tests.wsgi.client import Client, chunked, request
from tests.wsgi.corpus import LEGAL
from tests.wsgi.corpus.case import Legal
from tests.wsgi.corpus.legal_bodies import SMUGGLED
from tests.wsgi.exchange import halves

GOOD = request("/good", "Connection: keep-alive")
AS_CASES = pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def recording(start):
    found = start("tests.wsgi.recorder:record", validate=False)
    yield found
    assert "Traceback" not in found.log()
    found.end()


@pytest.fixture
def client(recording):
    with recording.client() as client:
        yield client


@pytest.fixture
def pilot(recording):
    """Yield a connection that goes on while others end."""
    with recording.client() as client:
        yield client


def seen(pilot: Client, client: Client) -> list[dict]:
    return json.loads(pilot.get(f"{recorder.ASK}{client.sock.getsockname()[1]}").body)


def check_means(record: dict, case: Legal) -> None:
    assert (record["REQUEST_METHOD"], record["RAW_URI"], record["body"].encode("latin-1")) == case.means
    assert {key: record.get(key) for key in case.environ} == case.environ


def check_served(client: Client, case: Legal) -> None:
    answer = client.answer(bodyless=case.means[0] == "HEAD")
    assert answer.status == 200
    assert answer.closes == case.closes


@AS_CASES
def test_served_between_others(client, pilot, case):
    client.send(GOOD + case.data + GOOD)
    assert client.answer().status == 200
    check_served(client, case)
    if not case.closes:
        assert client.answer().status == 200
        client.sock.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    before, record, *behind = seen(pilot, client)
    check_means(record, case)
    assert [each["RAW_URI"] for each in (before, *behind)] == ["/good"] * (1 if case.closes else 2)


@AS_CASES
def test_served_however_it_is_split(recording, pilot, case):
    for first, second in halves(case.data):
        with recording.client() as client:
            client.send(first)
            pilot.get(recorder.ASK)  # so that the server has seen the first half by itself
            client.send(second)
            check_served(client, case)
            (record,) = seen(pilot, client)
            check_means(record, case)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_body_that_nobody_reads_is_no_request(client, pilot, method):
    """Else who forwards it would have two answers to one request: CL.0."""
    client.send(request("/leave", method=method, body=SMUGGLED) + GOOD)
    assert client.answer(bodyless=method == "HEAD").status == client.answer().status == 200
    assert [each["RAW_URI"] for each in seen(pilot, client)] == ["/leave", "/good"]


def test_nor_are_chunks_that_nobody_reads(client, pilot):
    client.send(request("/leave", "Transfer-Encoding: chunked", method="POST") + chunked(SMUGGLED) + GOOD)
    assert client.answer().closes
    assert client.rest() == b""
    assert [each["RAW_URI"] for each in seen(pilot, client)] == ["/leave"]
