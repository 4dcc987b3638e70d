"""The access log: what it says, that nobody can forge a line of it, and that it holds nobody up."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd.request_id import RequestIds
from forkd.wsgi.access_lines import JsonLines, TextLines, refused
from forkd.wsgi.sink import Sink
from tests.waiting import until
from tests.wsgi.client import Client, chunked, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.wsgi.conftest import Served

LINE = re.compile(
    r'(?P<address>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<duration>\S+) (?P<id>\S+)\n'
)
KEYS = [
    *("time", "remote_addr", "method", "path", "query", "protocol", "status", "bytes", "duration", "referer"),
    *("user_agent", "request_id", "service", "slot", "error"),
]
ROOM = 8 << 20  # bytes of lines that a worker keeps


class Logged:
    """A server whose access log is a file of JSON objects."""

    def __init__(self, served: Served, path: Path) -> None:
        self.served = served
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def only(self, count: int = 1) -> list[dict[str, Any]]:
        """Return so many objects, when they are there."""
        found = until(lambda: found if len(found := self.lines()) >= count else [], what=f"{count} lines")
        assert len(found) == count
        return found

    def one(self) -> dict[str, Any]:
        return self.only()[0]


@pytest.fixture
def log(serve, tmp_path) -> Callable[..., Logged]:
    """Return a function that starts a server with an access log."""

    def log(*args: Any, format: str = "json", **order: Any) -> Logged:
        path = tmp_path / "access.log"
        options = {"access_log": [str(path), format], **order.pop("options", {})}
        return Logged(serve(*args, options=options, **order), path)

    return log


def test_a_line_of_text(log):
    logged = log(format="text")
    logged.served.get("/hello?a=1", "User-Agent: test/1", "Referer: http://a/")
    line = until(logged.path.read_text, what="a line")
    found = LINE.fullmatch(line)
    assert found is not None, line
    said = found.groupdict()
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}", said.pop("time"))
    assert 0 <= float(said.pop("duration")) < 10
    assert re.fullmatch(r"[0-9a-f]{16}-1", said.pop("id"))
    assert said == {
        "address": "127.0.0.1", "user": "-", "request": "GET /hello?a=1 HTTP/1.1", "status": "200", "bytes": "13",
        "referer": "http://a/", "agent": "test/1",
    }  # fmt: skip
    assert logged.path.stat().st_mode & 0o777 == 0o640


def test_an_object(log):
    logged = log()
    logged.served.get("/hello/%C3%A4?a=%20", "User-Agent: test/1")
    said = logged.one()
    assert list(said) == KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert 0 <= said.pop("duration") < 10
    assert re.fullmatch(r"[0-9a-f]{16}-1", said.pop("request_id"))
    assert said == {
        "remote_addr": "127.0.0.1", "method": "GET", "path": "/hello/%C3%A4", "query": "a=%20", "protocol": "HTTP/1.1",
        "status": 200, "bytes": 13, "referer": None, "user_agent": "test/1", "service": "Server", "slot": None,
        "error": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "method", "status", "size", "error"),
    [
        ("/parts", "GET", 200, 13, False),
        ("/pieces", "GET", 200, 13, False),
        ("/write", "GET", 200, 20, False),
        ("/sized/100000", "GET", 200, 100000, False),
        ("/hello", "HEAD", 200, 0, False),
        ("/status/304", "GET", 304, 0, False),
        ("/status/503/sorry", "GET", 503, 5, False),
        ("/fail", "GET", 500, 26, True),
        ("/fail-started", "GET", 500, 26, True),
        ("/never-start", "GET", 500, 26, True),
        ("/fail-late", "GET", 200, 13, True),
        ("/promise/10/3", "GET", 200, 3, True),
        ("/promise/3/10", "GET", 200, 3, True),
    ],
)
def test_what_became_of_a_request(log, path, method, status, size, error):  # noqa: PLR0917 -- a table
    logged = log()
    with logged.served.client() as client:
        client.send(request(path, method=method))
        client.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            client.rest()
    said = logged.one()
    assert (said["method"], said["status"], said["bytes"], said["error"]) == (method, status, size, error)


@pytest.mark.parametrize(
    ("data", "status", "method", "path", "protocol"),
    [
        (b"nonsense\r\n\r\n", 400, None, "nonsense", None),
        (b"\x16\x03\x01\x00\xee\r\n", 400, None, "\x16\x03\x01\x00\\xee", None),
        (b"GET /a HTTP/1.1\r\n\r\n", 400, "GET", "/a", "HTTP/1.1"),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nA: 1\n\r\n", 400, "GET", "/a", "HTTP/1.1"),
        (b"GET /" + b"x" * 100, 414, None, "GET /" + "x" * 100, None),
        (b"GET /a HTTP/1.1\r\nA: " + b"x" * 500, 431, "GET", "/a", "HTTP/1.1"),
        (request("/a", "Transfer-Encoding: gzip, chunked"), 501, "GET", "/a", "HTTP/1.1"),
        (request("/a", version="2.0"), 505, "GET", "/a", "HTTP/2.0"),
        (request("/a", "Content-Length: 2000"), 413, "GET", "/a", "HTTP/1.1"),
        (request("/a", "Content-Length: 1", "Expect: a"), 417, "GET", "/a", "HTTP/1.1"),
        (b"GET /a HTTP/1.1\r\nHo", 408, "GET", "/a", "HTTP/1.1"),
    ],
)
def test_refusals_of_the_servers_own(log, data, status, method, path, protocol):  # noqa: PLR0917 -- as above
    limits = {"request_line_limit": 100, "header_limit": 500, "body_limit": 1000}
    logged = log(options={**limits, "header_timeout": 0.1 if status == 408 else 60.0})
    with logged.served.client() as client:
        client.send(data)
        answer = client.answer()
    assert answer.status == status
    said = logged.one()
    assert (said["status"], said["method"], said["protocol"]) == (status, method, protocol)
    assert said["path"].endswith(path)
    assert (said["remote_addr"], said["bytes"]) == ("127.0.0.1", len(answer.body))
    assert (said["duration"], said["request_id"], said["error"]) == (None, None, False)


def test_a_refusal_as_text_has_a_dash_for_what_is_not_known(log):
    logged = log(format="text")
    with logged.served.client() as client:
        client.send(b'a"b\x00\r\n\r\n')
        assert client.answer().status == 400
        client.rest()
    found = LINE.fullmatch(until(logged.path.read_text, what="a line"))
    assert found is not None
    assert found.group("user", "request", "referer", "agent", "duration", "id") == ("-", r"a\x22b\x00", *"----")


def test_a_body_that_is_refused_while_the_application_reads(log):
    logged = log(options={"body_limit": 10})
    with logged.served.client() as client:
        client.send(request("/echo", "Transfer-Encoding: chunked", method="POST") + chunked(b"x" * 11))
        answer = client.answer()
    said = logged.one()
    assert (said["status"], said["bytes"], said["error"]) == (413, len(answer.body), False)
    assert said["request_id"]


def test_a_client_that_left_before_it_was_answered(log):
    logged = log()
    with logged.served.client() as client:
        client.send(request("/held/x"))
        logged.served.get("/await-held/x")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    logged.served.open_gate("x")
    said = {one["path"]: one for one in logged.only(2)}["/held/x"]
    assert (said["status"], said["bytes"], said["error"]) == (499, 0, True)


def test_a_client_that_left_in_the_middle(log):
    logged = log()
    size = 50_000_000
    with logged.served.client() as client:
        client.send(request(f"/sized/{size}"))
        client.exactly(1_000_000)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    said = logged.one()
    assert (said["status"], said["error"]) == (200, True)
    assert 1_000_000 - 1000 <= said["bytes"] < size


def test_who_asks_at_the_private_listener_is_not_logged(log, short_tmp):
    logged = log(private=str(short_tmp / "sock"), bind=f"unix:{short_tmp}/public")
    for name, data in (("sock", request("/hello")), ("sock", b"nonsense\r\n\r\n"), ("public", request("/hello"))):
        with Client(f"unix:{short_tmp}/{name}") as client:
            client.send(data)
            client.answer()
    assert logged.one()["remote_addr"] is None


def test_the_application_has_the_id_that_is_logged_and_no_other_request_has_it(log):
    logged = log()
    with logged.served.client() as client:
        ids = [json.loads(client.get("/environ", "X-Request-Id: a b").body)["forkd.request_id"] for _ in range(10)]
    assert len(set(ids)) == 10
    assert [one["request_id"] for one in logged.only(10)] == ids


@pytest.mark.parametrize("allowed", [[], ["127.0.0.1"]])
def test_the_id_that_a_proxy_has_given_is_taken_if_it_is_believed(log, allowed):
    logged = log(options={"forwarded_allow_ips": allowed})
    found = json.loads(logged.served.get("/environ", "X-Request-Id: given", "X-Forwarded-For: 192.0.2.7"))
    said = logged.one()
    assert said["request_id"] == found["forkd.request_id"]
    assert (said["request_id"] == "given") == bool(allowed)
    assert said["remote_addr"] == ("192.0.2.7" if allowed else "127.0.0.1")


@pytest.mark.parametrize("sent", ["a", "A9._~+/=-" * 14, "x" * 128])
def test_a_good_id_is_taken(sent):
    assert RequestIds().of(sent) == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"', "a\n", "\xe4", "a,b"])
def test_an_id_that_could_be_mistaken_is_not(sent):
    ids = RequestIds()
    made = [ids.of(sent), ids.of("")]
    assert [id_.partition("-")[2] for id_ in made] == ["1", "2"]


def test_nobody_writes_more_than_one_line(log):
    logged = log(format="text")
    evil = b'"\\ \xc3\xa4\t\xff\x80" 200 1 "'
    with logged.served.client() as client:
        client.send(
            b"GET /hello?\"'%0a HTTP/1.1\r\nHost: a\r\nUser-Agent: " + evil + b"\r\nReferer: " + evil + b"\r\n\r\n"
        )
        assert client.answer().status == 200
        client.send(b"GET / HTTP/1.1\r\nUser-Agent: a\nb\r\n\r\n")
        assert client.answer().status == 400
    lines = until(lambda: len(found := logged.path.read_text().splitlines(True)) > 1 and found, what="two lines")
    escaped = r"\x22\x5C \xC3\xA4\x09\xFF\x80\x22 200 1 \x22"
    found = [LINE.fullmatch(line) for line in lines]
    assert [one and one.group("agent") for one in found] == [escaped, "a"]
    assert found[0].group("request", "referer") == (r"GET /hello?\x22'%0a HTTP/1.1", escaped)


def test_what_an_application_leaves_in_its_environ_ends_no_log(log):
    logged = log("tests.wsgi.misuse:app", format="text")
    for path in ("/odd-user", "/named-user"):
        logged.served.get(path, "User-Agent: test")
    text = until(lambda: found if (found := logged.path.read_text()).count("\n") == 2 else "", what="two lines")
    first, second = text.splitlines()
    assert "127.0.0.1 - - [" in first
    assert '"GET /odd-user HTTP/1.1" 200 4 "-" "-"' in first
    assert "127.0.0.1 - ada [" in second


def test_all_is_written_before_a_stop_ends(log):
    for stop in ("drain_all", "cut"):
        logged = log()
        with logged.served.client() as client:
            for _ in range(20):
                client.get("/hello")
        getattr(logged.served, stop)()
        logged.served.stopped()
        assert len(logged.lines()) == 20, stop
        logged.path.unlink()


def test_what_is_cut_by_a_stop_is_logged(log):
    logged = log()
    with logged.served.client() as client:
        client.send(request("/closing/x/1000"))
        client.head()
        client.chunk()
        logged.served.cut()
        logged.served.stopped()
    said = logged.one()
    assert (said["path"], said["status"], said["error"]) == ("/closing/x/1000", 200, True)
    assert 65000 <= said["bytes"] < 1000 * 65536


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nobody(serve):
    served = serve(options={"access_log": ["/dev/full"]})
    said = f"cannot write to /dev/full, it is tried again: {os.strerror(errno.ENOSPC)}"
    for _ in range(3):
        served.get("/hello")
    served.logged(said)
    served.get("/hello")
    served.drain()
    served.stopped()
    assert served.log().count(said) == 1
    assert "4 lines are lost, since /dev/full took no more" in served.log()


def test_stdout_is_a_file_like_another(serve):
    served = serve(options={"access_log": ["stdout"]})
    served.get("/hello")
    served.logged('"GET /hello HTTP/1.1" 200 13 ')


@pytest.fixture
def fifo(tmp_path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, end
    os.close(end)


def take(end: int) -> bytes:
    """Return what is in a pipe."""
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(end, 65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_reader_that_hangs_holds_nobody_up_and_gets_whole_lines(serve, fifo):
    path, end = fifo
    served = serve(options={"access_log": [str(path), "json"], "header_limit": 1 << 20, "keepalive_timeout": 60})
    least = ROOM // 4096  # lines that there is room for
    count = least + 400
    with served.client() as client:
        for number in range(count):
            client.send(request(f"/hello?{number}", "User-Agent: " + "x" * 6000))
            assert client.answer().status == 200
        served.logged("lines are lost")
        lines = b""
        while lines.count(b"\n") < 2000:
            lines += until(lambda: take(end), what="lines")
        client.get("/hello?last")
    while b"?last" not in lines and b'"query":"last"' not in lines:
        lines += until(lambda: take(end), what="the last line")
    found = [json.loads(line) for line in lines.splitlines()]
    assert all(len(line) < 4096 for line in lines.splitlines())
    numbers = [int(one["query"]) for one in found[:-1]]
    assert numbers[:least] == list(range(least))
    assert numbers == sorted(set(numbers))  # what waited yet to be made a line found room when others were read
    assert found[-1]["query"] == "last"
    assert all(one["user_agent"].endswith("x...") for one in found[:-1])
    lost = sum(map(int, re.findall(r"access log: (\d+) lines are lost", served.log())))
    assert lost <= count - (len(found) - 1)


def test_a_stream_is_given_a_moment_for_the_last_lines(serve, fifo):
    path, end = fifo
    served = serve(options={"access_log": [str(path)]})
    with served.client() as client:
        for number in range(500):
            client.send(request(f"/hello?{number}", "User-Agent: " + "x" * 1000))
            assert client.answer().status == 200
    os.set_blocking(end, True)
    with os.fdopen(os.dup(end), "rb") as reader:
        lines: list[bytes] = []
        thread = threading.Thread(target=lambda: lines.extend(reader))
        thread.start()
        served.drain_all()
        served.stopped()
        thread.join(10)
    assert len(lines) == 500
    assert b"?499 " in lines[-1]
    assert "lost" not in served.log()


TEXTS = st.none() | st.text() | st.text(alphabet=st.characters(max_codepoint=255), max_size=9000) | st.integers()
ENTRIES = st.tuples(
    st.floats(0, 1e9), st.none() | st.floats(0, 1e6), st.integers(100, 999), st.integers(0), st.booleans(), *[TEXTS] * 8
)


@given(ENTRIES)
def test_any_entry_is_one_line_of_text(entry):
    line = TextLines(4096).line(entry, 0.0)
    assert len(line) <= 4096
    assert LINE.fullmatch(line.decode("ascii"))


@given(ENTRIES)
def test_any_entry_is_one_object(entry):
    line = JsonLines(4096, "söme", 3).line(entry, 0.0)
    assert len(line) <= 4096
    assert line.count(b"\n") == 1
    assert list(json.loads(line.decode("ascii"))) == KEYS


@given(st.binary())
def test_any_bytes_can_be_refused(start):
    line = TextLines(4096).line((0.0, None, 400, 0, False, "", None, *refused(start), None), 0.0)
    assert LINE.fullmatch(line.decode("ascii"))


def test_the_longest_texts_are_cut():
    entry = (0.0, 0.0, 200, 0, False, "a", None, "GET", "/t", "HTTP/1.1", "r" * 3000, "u" * 1500, "i")
    line = TextLines(4096).line(entry, 0.0)
    assert len(line) == 4096
    assert b'r..." "' + b"u" * 1500 + b'"' in line


@pytest.mark.parametrize("lines", [TextLines(16384), JsonLines(16384, "s", 0)])
@pytest.mark.parametrize("odd", ["\xff", '"\\', "\t", "\xc3\xa4", "\U0001f600"])
def test_what_is_to_be_escaped_is_cut_before_that(lines, odd, monkeypatch):
    texts = [odd * 3500, odd * 2000, odd * 7500, odd * 2000]
    looked_at, make = [], lines._line

    def counting(entry, at):
        looked_at.append(sum(len(text or "") for text in entry[5:]))
        return make(entry, at)

    monkeypatch.setattr(lines, "_line", counting)
    found = lines.line((0.0, 0.0, 200, 0, False, "a", None, "GET", texts[0], "HTTP/1.1", *texts[1:]), 0.0)
    assert lines.limit / 2 < len(found) <= lines.limit
    assert sum(looked_at) <= 2 * lines.limit


def test_a_line_that_was_written_in_part_is_written_whole_after_it(tmp_path):
    """The disk is full at 1000 bytes, and then no more."""
    source = f"""
        import resource
        from collections import deque
        from forkd.wsgi.sink import Sink
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        sink, lines = Sink({str(tmp_path / "log")!r}, bool), deque(b"%063d\\n" % number for number in range(20))
        try:
            sink.write(lines)
        except OSError as error:
            print(error.errno)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sink.write(lines)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == f"{errno.EFBIG}\n"
    lines = (tmp_path / "log").read_text().splitlines()
    torn = lines.pop(15)
    assert torn == "0" * 40
    assert list(map(int, lines)) == list(range(20))


def test_a_stream_that_knows_no_nowait_is_asked_whether_it_has_room():
    main, terminal = os.openpty()
    room = [False]
    sink = Sink(os.ttyname(terminal), lambda _: room[0])
    lines = deque([b"one\n", b"two\n"])
    assert sink.write(lines) == 0
    room[0] = True
    assert sink.write(lines) == 8
    assert os.read(main, 100) == b"one\r\ntwo\r\n"
    sink.close()
    os.close(main)
    os.close(terminal)
