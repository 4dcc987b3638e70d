"""Requests are checked to the last key; answers are one line each."""

from __future__ import annotations

import json

import pytest

from forkd.control import protocol, words
from forkd.control.protocol import Request
from forkd.core import spec
from forkd.core.state import News
from forkd.errors import ProtocolError


@pytest.mark.parametrize(
    "request_",
    [
        Request("status"),
        Request("reload"),
        Request("reload", "shop"),
        Request("restart", "shop"),
        Request("stop", None, quick=True),
        Request("stop", "shöp"),
        Request("scale", "shop", workers=0),
        Request("scale", "shop", workers=-10_000, relative=True),
        Request("signal", "shop", slot=0, signal=64, follow=True),
        Request("checks"),
        Request("events", follow=True),
        Request("health", id=7, failures=0),
        Request("health", id=7, failures=3, unhealthy=True, text="500 Internal Server Error"),
    ],
)
def test_a_request_arrives_as_it_was_sent(request_):
    line = protocol.request_line(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert protocol.parse_request(line) == request_


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "JSON"),
        (b"reload", "JSON"),
        (b"[" * 60000, "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b'"status"', "object"),
        (b"{}", '"do"'),
        (b'{"do": "shutdown"}', "'shutdown'"),
        (b'{"do": ["status"]}', '"do"'),
        (b'{"do": "reload", "service": 1}', '"service"'),
        (b'{"do": "stop", "quick": 1}', '"quick"'),
        (b'{"do": "reload", "quick": true}', "reload knows nothing of 'quick'"),
        (b'{"do": "scale", "service": "shop"}', '"workers" must go with scale'),
        (b'{"do": "scale", "workers": 1}', '"service" must go with scale'),
        (b'{"do": "scale", "service": "shop", "workers": true}', '"workers"'),
        (b'{"do": "scale", "service": "shop", "workers": 10001}', "from -10000 to 10000"),
        (b'{"do": "scale", "service": "shop", "workers": -1}', "negative"),
        (b'{"do": "health", "id": 7}', '"failures" must go with health'),
        (b'{"do": "health", "id": 0, "failures": 1}', '"id" must be a number from 1 to'),
        (b'{"do": "health", "id": 7, "failures": 1, "text": 1}', '"text" must be a text'),
        (b'{"do": "signal", "service": "shop"}', '"signal" must go with signal'),
        (b'{"do": "signal", "service": "shop", "signal": 0}', "from 1 to 64"),
        (b'{"do": "signal", "service": "shop", "signal": 1, "slot": -1}', '"slot"'),
        (b'{"do": "stop", "sevice": "shop"}', "'sevice'"),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(line, why):
    with pytest.raises(ProtocolError, match=why):
        protocol.parse_request(line)


def test_an_answer_is_one_line_whatever_is_in_it():
    news = News("failed", "shop", 0, 7, 12, text="first\nsecond")
    line = protocol.news_line(17, "2026-01-01T00:00:00.123Z", news, words.say(news))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "seq": 17,
        "at": "2026-01-01T00:00:00.123Z",
        "news": {"kind": "failed", "service": "shop", "slot": 0, "id": 7, "pid": 12, "text": "first\nsecond"},
        "level": "error",
        "origin": "shop/0",
        "text": "failed: first\nsecond",
    }


@pytest.mark.parametrize(
    ("news", "said"),
    [
        (News("stopping"), ("info", "launcher", "stopping")),
        (News("imported", "shop", None, 1, 11, 2), ("info", "shop", "generation 2 imported, zygote pid 11")),
        (News("ready", "shop", 3, 7, 12, 2), ("info", "shop/3", "ready, pid 12, generation 2")),
        (News("exited", "shop", 3, 7, 12, ok=True, text="drained"), ("info", "shop/3", "pid 12 exited: drained")),
        (
            News("exited", "shop", 3, 7, 12, ok=False, text="died of SIGSEGV"),
            ("warning", "shop/3", "pid 12 exited: died of SIGSEGV"),
        ),
        (News("import_failed", "shop", None, 7, text="port taken"), ("debug", "shop", "failed: port taken")),
        (
            News("exited", "shop", None, 7, ok=False, text="port taken"),
            ("error", "shop", "could not be started: port taken"),
        ),
        (News("exited", "shop", 3, 7, ok=True, text="stopped"), ("info", "shop/3", "not started: stopped")),
        (News("reload_ended", ok=True), ("info", "launcher", "reload done")),
        (News("reload_ended", ok=False, text="no"), ("error", "launcher", "reload failed: no")),
        (News("ended", ticket=4, ok=True), ("debug", "launcher", "request 4 done")),
        (News("config_refused", text="a\nb"), ("error", "launcher", "configuration refused: a\nb")),
        (
            News("exited", "shop", 3, 7, 12, ok=False, stacks="Thread 0x1:\n  File …", text="hung"),
            ("warning", "shop/3", "pid 12 exited: hung\nThread 0x1:\n  File …"),
        ),
        (News("stacks", "shop", 3, 7, 12, 2, text="Thread 0x1"), ("info", "shop/3", "stacks:\nThread 0x1")),
        (News("scaled", "shop", text="5 workers wanted"), ("info", "shop", "5 workers wanted")),
    ],
)
def test_news_in_words(news, said):
    assert tuple(words.say(news)) == said


def test_a_service_may_be_scaled_to_what_its_key_may_say():
    assert protocol.MOST_WORKERS == spec.MOST_WORKERS
