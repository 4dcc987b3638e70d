"""What the parser of heads remembers of lines: nobody can tell, and it is bounded."""

from __future__ import annotations

import pytest

from forkd.wsgi.head import HeadParser
from forkd.wsgi.options import Options
from forkd.wsgi.refusal import Refused

PREPARED = {"SCRIPT_NAME": ""}
LINE = "GET /a?b HTTP/1.1"


@pytest.fixture
def parser():
    return HeadParser(Options(request_line_limit=300))


def head(*fields: str, line: str = LINE) -> bytes:
    return "".join(f"{each}\r\n" for each in (line, "Host: a", *fields, "")).encode("latin-1")


def kept(parser) -> int:
    return len(parser._lines) + len(parser._fields)


def test_the_same_head_gives_each_time_an_environ_of_its_own(parser):
    data = head("X-A: 1", "x-a:2", "Cookie: c=d", "X_B: 3")
    first, second = (parser.parse(data, PREPARED).environ for _ in range(2))
    assert first == second
    assert first["HTTP_X_A"] == "1,2"
    assert first["PATH_INFO"] == "/a"
    assert None not in first
    first.clear()
    assert parser.parse(data, PREPARED).environ == second
    assert PREPARED == {"SCRIPT_NAME": ""}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Host: a"], 400),
        (["Content-Length: 1", "Content-Length: 1"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 1"], 400),
        (["Transfer-Encoding: gzip"], 501),
        (["X: a\x00"], 400),
        ([f"X-{number}: a" for number in range(100)], 431),
    ],
)
def test_what_is_refused_is_refused_again(parser, fields, status):
    for _ in range(2):
        parser.parse(head(), PREPARED)
        for field in fields[:99]:
            try:
                parser.parse(head(field), PREPARED)
            except Refused:
                continue
        with pytest.raises(Refused) as refused:
            parser.parse(head(*fields), PREPARED)
        assert refused.value.status == status


def test_what_is_secret_or_long_is_not_kept(parser):
    parser.parse(head(), PREPARED)
    before = kept(parser)
    parser.parse(
        head("Cookie: a=b", "authorization: Basic abc", f"X: {'x' * 256}", line=f"{LINE[:4]}/{'x' * 256} HTTP/1.1"),
        PREPARED,
    )
    assert kept(parser) == before


def test_no_client_can_fill_it(parser):
    most = 0
    for number in range(5000):
        parser.parse(head(f"X-A: {number}", line=f"GET /{number} HTTP/1.1"), PREPARED)
        most = max(most, kept(parser))
    assert most <= 2 * 1024
    parser.parse(head("X-New: 1"), PREPARED)
    before = kept(parser)
    assert parser.parse(head("X-New: 1"), PREPARED).environ["HTTP_X_NEW"] == "1"
    assert kept(parser) == before, "it learns still"
