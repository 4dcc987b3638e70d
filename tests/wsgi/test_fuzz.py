"""Random connections mean to the server what they mean to others; and whoever says so would notice if they did not."""

from __future__ import annotations

import pytest

from tests.wsgi.client import request
from tests.wsgi.corpus import BODIES, LEGAL, MALFORMED
from tests.wsgi.fuzz.judge import judge
from tests.wsgi.fuzz.model import End, meaning
from tests.wsgi.fuzz.mutation import BODY_HEAD, CLOSE, HALF, Script
from tests.wsgi.fuzz.run import batch
from tests.wsgi.fuzz.second import Opinion, opinion
from tests.wsgi.fuzz.stage import Played, Stage, Violation

GOOD = request("/hello")
BAD = b"GET /hello\r\n\r\n"
READ_PAST_BY_US_ALONE = {"white space in an extension", "trailer of framing"}


@pytest.fixture(scope="module")
def stage(engine):
    with Stage(engine) as stage:
        yield stage


@pytest.mark.parametrize("seed", range(12))
def test_random_connections(stage, seed):
    assert batch(stage, seed)["connections"] > 0


# --- the model, and h11 ----------------------------------------------------------------------------------------------


def test_the_model_refuses_what_is_malformed():
    assert [case.name for case in MALFORMED if meaning(case.data + GOOD) != ([], End.REFUSED)] == []


def test_the_model_refuses_bad_bodies():
    for case in BODIES:
        (message,), end = meaning(BODY_HEAD + case.data + GOOD)
        assert (message.body, end) == (None, End.BAD_BODY), case.name


def test_the_model_and_h11_read_what_is_legal():
    for case in LEGAL:
        (message, *behind), end = meaning(case.data + GOOD)
        assert (message.method.decode(), message.target.decode(), message.body) == case.means, case.name
        assert (len(behind), end) == ((0, End.LAST) if case.closes else (1, End.NOTHING)), case.name
        expected = Opinion(message.method, message.target, message.body, GOOD)
        assert opinion(case.data + GOOD) == (None if case.name in READ_PAST_BY_US_ALONE else expected), case.name


# --- the judge -------------------------------------------------------------------------------------------------------


def record(target: str = "/hello", body: str | None = "", **more: str) -> dict:
    common = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "test"}
    return common | {"RAW_URI": target, "body": body} | more


def answer(status: int = 200, *, closes: bool = False) -> bytes:
    return b"HTTP/1.1 %d X\r\n%bContent-Length: 2\r\n\r\nxx" % (status, b"Connection: close\r\n" * closes)


REFUSED = answer(400, closes=True)


@pytest.mark.parametrize(
    ("data", "seen", "answers"),
    [
        (GOOD, [record()], answer()),
        (GOOD * 2, [record()] * 2, answer() * 2),
        (GOOD + BAD + GOOD, [record()], answer() + REFUSED),
        (GOOD[:-2], [], b""),
        (GOOD[:-2], [], REFUSED),
        (request("/hello", body=b"ab"), [record(body="ab", CONTENT_LENGTH="2")], answer()),
        (request("/hello", body=b"ab")[:-1], [record(body=None, CONTENT_LENGTH="2")], b""),
    ],
)
def test_the_judge_is_content(data, seen, answers):
    judge(Played(Script([data], HALF), seen, answers))


@pytest.mark.parametrize(
    ("data", "seen", "answers", "complaint"),
    [
        (BAD, [record()], answer(), "no request"),
        (BAD + GOOD, [record()], REFUSED + answer(), "no request"),
        (GOOD, [record()] * 2, answer() * 2, "no request"),
        (GOOD, [record("/other")], answer(), "another target"),
        (GOOD, [record(REQUEST_METHOD="POST")], answer(), "another method"),
        (GOOD, [record(SERVER_PROTOCOL="HTTP/1.0")], answer(), "another version"),
        (GOOD, [record(HTTP_X="a")], answer(), "other fields"),
        (GOOD, [record(body="x")], answer(), "another body"),
        (request("/hello", body=b"ab")[:-1], [record(body="a", CONTENT_LENGTH="2")], answer(), "another body"),
        (GOOD, [], b"", "not served"),
        (GOOD, [record()], b"", "got no answer"),
        (GOOD, [], REFUSED, "not served"),
        (GOOD, [record()], REFUSED, "got no answer"),
        (GOOD, [record()], answer(closes=True), "connection ends"),
        (GOOD, [record()], answer()[:-1], "cut off"),
        (GOOD, [record()], answer() + b"xx", "no answer"),
        (GOOD, [record()], answer() * 2, "no refusal"),
        (GOOD, [record()], answer() + REFUSED, "something legal"),
        (BAD, [], b"", "malformed request got no answer"),
        (BAD, [], answer(400), "no refusal"),
        (BAD, [], answer(500, closes=True), "no refusal"),
        (BAD, [], REFUSED * 2, "more than one"),
        (
            request("/leave", body=b"ab") + BAD,
            [record("/leave", None, CONTENT_LENGTH="2")],
            answer(closes=True) * 2,
            "more came",
        ),
    ],
)
def test_the_judge_complains(data, seen, answers, complaint):
    with pytest.raises(Violation, match=complaint):
        judge(Played(Script([data], HALF), seen, answers))


def test_the_judge_looks_at_what_was_served_to_who_left_at_once():
    judge(Played(Script([GOOD * 2], CLOSE), [record()], None))
    with pytest.raises(Violation, match="another target"):
        judge(Played(Script([GOOD * 2], CLOSE), [record("/other")], None))
