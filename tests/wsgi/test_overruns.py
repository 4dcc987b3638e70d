"""Requests that take longer than they may are told of, each once, with what they are at."""

from __future__ import annotations

from tests.wsgi.client import request

LATE = "GET /held/late?a=b has run for more than 0.2 s and goes on:"


def test_a_request_that_takes_too_long_is_told_of_with_its_stack(serve):
    served = serve(service={"request_timeout": 0.2})
    with served.client() as client:
        client.send(request("/held/late?a=b"))
        log = served.logged(LATE).partition(LATE)[2]
        assert "in held\n    assert gate(argument(environ)).wait(30)" in log
        served.open_gate("late")
        assert client.answer().body == b"let go"
    served.get("/hello")
    assert served.log().count("has run for") == 1


def test_each_of_several_is_told_of(serve):
    served = serve(service={"request_timeout": 0.2})
    with served.client() as one, served.client() as other:
        one.send(request("/held/one"))
        served.logged("GET /held/one has run for")
        other.send(request("/held/other"))
        served.logged("GET /held/other has run for")
        for name in ("one", "other"):
            served.open_gate(name)
        assert one.answer().status == other.answer().status == 200


def test_requests_in_time_are_not(serve):
    served = serve(service={"request_timeout": 20.0})
    with served.client() as client:
        for _ in range(3):
            client.get("/hello")
    assert "took" not in served.log()


def test_one_that_gave_way_to_nobody_is_told_of_at_its_end(serve):
    served = serve(service={"request_timeout": 0.05})
    served.get("/busy/0.3")
    served.logged("GET /busy/0.3 ")
    assert served.log().count("more than 0.05 s") == 1
