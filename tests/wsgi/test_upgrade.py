"""Connections that an application takes to speak another protocol: `environ["forkd.socket"]`."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until
from tests.wsgi.client import Client, request
from tests.wsgi.takeover import check_takeover
from tests.wsgi.tls_client import TlsEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSPORTS = ["plain", "tls"]
UPGRADE = ("Connection: keep-alive, Upgrade", "Upgrade: bytes")
LONG = 60.0  # seconds; never waited for


@pytest.fixture(scope="module")
def switching(start):
    found = start("tests.wsgi.upgraded:by_path")
    yield found
    found.end()


@pytest.fixture
def client(switching):
    with switching.client() as client:
        yield client


def switch(client: Client, path: str, behind: bytes = b"") -> Client:
    """Ask for the other protocol, and return the client that has got it."""
    client.send(request(path, *UPGRADE) + behind)
    assert client.head()[0] == 101
    return client


def assert_answers(served) -> None:
    assert served.get("/hello") == b"Hello, world!"


@pytest.mark.parametrize(
    ("headers", "version", "offered"),
    [
        (UPGRADE, "1.1", b"True"),
        (("Connection: UPGRADE", "Upgrade: websocket"), "1.1", b"True"),
        ((*UPGRADE, "Content-Length: 0"), "1.1", b"True"),
        (UPGRADE, "1.0", b"False"),
        (("Connection: Upgrade",), "1.1", b"False"),
        (("Upgrade: websocket",), "1.1", b"False"),
        ((), "1.1", b"False"),
    ],
)
def test_it_is_offered_to_those_who_ask(client, headers, version, offered):
    assert client.get("/offered", *headers, version=version).body == offered


def test_it_is_not_offered_behind_a_body(client):
    client.send(request("/offered", *UPGRADE, method="POST", body=b"body") + request("/hello"))
    assert client.answer().body == b"False"
    assert client.answer().body == b"Hello, world!"


def test_an_application_that_leaves_it_alone_answers_as_ever(client):
    for _ in range(3):
        assert client.get("/offered", *UPGRADE).body == b"True"
    client.send(request("/hello", *UPGRADE) + request("/hello"))
    assert [client.answer().body for _ in range(2)] == [b"Hello, world!"] * 2


def test_the_application_speaks_as_it_likes(client):
    switch(client, "/echo-bytes")
    for size in (1, 100, 70_000):
        client.send(b"x" * size)
        assert client.exactly(size) == b"x" * size
    client.send(request("/hello"))  # nothing of it is HTTP any more
    assert client.exactly(len(request("/hello"))) == request("/hello")


def test_what_was_sent_behind_the_head_is_read_first(client):
    behind = request("/hello") + b"and more"
    switch(client, "/echo-bytes", behind)
    assert client.exactly(len(behind)) == behind


def test_a_response_is_ignored_and_closed(client, switching):
    switch(client, "/returns/ignored")
    assert client.rest() == b"the end"
    assert switching.get("/closed/ignored") == b"1"


def test_a_generator_may_take_it_too(client):
    switch(client, "/generator")
    assert client.rest() == b"from within"


def test_an_error_is_logged_and_sent_to_nobody(client, switching):
    switch(client, "/raises")
    assert client.rest() == b"the end"
    assert "the secret cause" in switching.logged("GET /raises failed")


def test_the_end_by_a_bare_connection_error_is_no_failure(client, switching):
    switch(client, "/drops")
    assert client.rest() == b"the end"
    with switching.client() as other:
        switch(other, "/refused")
        assert other.rest() == b""
    switching.logged("GET /refused failed")
    assert "GET /drops failed" not in switching.log()


def test_closing_shows_the_client_the_end_at_once(client, switching):
    switch(client, "/closes/later")
    assert client.rest() == b"the end"
    switching.open_gate("later")


def test_it_is_too_late_when_the_response_has_begun(client):
    answer = client.get("/late", *UPGRADE)
    assert answer.body.startswith(b"begun ")
    assert b"the response has begun" in answer.body
    assert client.get("/hello").status == 200


@pytest.mark.parametrize("path", ["/keep", "/keep-taken"])
def test_it_is_of_no_use_when_the_request_is_over(client, switching, path):
    client.send(request(path, *UPGRADE))
    if path == "/keep-taken":
        client.head()
        assert client.rest() == b""
    else:
        client.answer()
        assert client.get("/hello").status == 200, "which is not looked at before the other request is over"
    found = switching.get("/use-kept").decode()
    assert found == str([b"", -1, errno.EPIPE, errno.EBADF, errno.EBADF])


def test_timeouts(client):
    switch(client, "/timeout")
    assert client.rest() == b"timed out, would block"


def test_a_timeout_of_sending(client, switching):
    switch(client, "/full")
    assert switching.get("/ended/full") == b"ended"
    words = client.rest().split(b" ")
    assert len(words[0]) == int(words[1])


def test_names_and_halves(client, switching):
    switch(client, "/names")
    client.send(b"abc")
    assert client.rest() == f"{switching.address.rpartition(':')[2]} True abc".encode()


def test_all_of_a_large_piece_is_sent(client, switching):
    switch(client, "/large/20000000")
    assert_answers(switching)
    assert client.rest() == b"x" * 20_000_000


def test_an_application_may_wait_by_a_selector(client):
    """Also for what has come with the head, and for what it has left of a piece, both of which are with the server."""
    switch(client, "/selector", b"behind the head")
    assert client.exactly(15) == b"behind the head"
    client.send(b"x" * 100_000)
    assert client.exactly(100_000) == b"x" * 100_000
    for word in (b"one", b"two", b"three"):
        client.send(word)
        assert client.exactly(len(word)) == word


@pytest.mark.parametrize("path", ["/echo-bytes", "/selector"])
def test_the_last_word_and_the_end_in_one_packet(client, path):
    switch(client, path)
    if isinstance(client.sock, TlsEnd):
        client.sock.raw.sendall(client.sock.encrypt(b"the last word") + client.sock.farewell())
    else:
        client.send(b"the last word")
        client.sock.shutdown(socket.SHUT_WR)
    assert client.rest() == b"the last word"


def test_the_application_may_speak_to_a_silent_client(client, switching):
    switch(client, "/push")
    for number in range(3):
        switching.open_gate(f"push-{number}")
        assert client.exactly(7) == f"line {number}\n".encode()


def test_what_several_threads_send_is_not_mixed(client):
    switch(client, "/many-writers")
    data = client.rest()
    assert len(data) == 10_000_000
    blocks = [data[at : at + 500_000] for at in range(0, len(data), 500_000)]
    assert all(len(set(block)) == 1 for block in blocks)


@pytest.mark.parametrize("silent", [True, False])
def test_a_thread_that_still_reads_is_let_go(client, switching, silent):
    """The client is shown the end at once, and the thread when the client ends too, or is silent for a second."""
    name = f"reader-{silent}"
    switch(client, f"/leaves-a-reader/{name}")
    assert client.rest() == b"the end"
    if not silent:
        client.sock.close()
    assert switching.get(f"/ended/{name}") == b"ended"
    assert_answers(switching)


def test_a_thread_that_has_received_something_may_answer(client):
    switch(client, "/answers-elsewhere/never")
    client.send(b"the last word")
    assert client.rest() == b"the last word"


def test_a_client_that_vanishes_is_no_error(serve):
    served = serve("tests.wsgi.upgraded:by_path")
    for path in ("/echo-bytes", "/selector", "/large/20000000"):
        with served.client() as client:
            switch(client, path)
    until(lambda: served.counters()["in_flight"] == 0)
    assert served.counters()["errors"] == 0
    assert "Traceback" not in served.log()


def test_it_counts_as_a_request_in_flight_and_has_no_limit(serve):
    served = serve(
        "tests.wsgi.upgraded:by_path",
        options={"header_timeout": 0.3, "keepalive_timeout": 0.3},
        service={"request_timeout": 0.3},
    )
    with served.client() as client:
        switch(client, "/echo-bytes")
        assert served.counters()["in_flight"] == 1
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 0.8)  # longer than any of them
        client.send(b"still there")
        assert client.exactly(11) == b"still there"
    until(lambda: served.counters()["in_flight"] == 0)
    assert "echo-bytes" not in served.log()


def test_a_machine_that_vanishes_is_noticed(client, switching):
    """By the kernel's keepalive: the timer of the server's end is set."""
    switch(client, "/echo-bytes")
    port = f":{int(switching.address.rpartition(':')[2]):04X}"
    peer = f":{client.sock.getsockname()[1]:04X}"

    def timer() -> str:
        with open("/proc/net/tcp") as file:
            rows = [line.split() for line in file]
        (found,) = [row[5] for row in rows if row[1].endswith(port) and row[2].endswith(peer)]
        return found

    until(lambda: timer().startswith("02:"), what="the timer")


# --- drain -----------------------------------------------------------------------------------------------------------


def test_a_drain_ends_it_when_nothing_else_is_left(serve):
    served = serve("tests.wsgi.upgraded:by_path", options={"keepalive_timeout": LONG}, stop_timeout=LONG)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(20)]
        for client in clients:
            switch(client, "/echo-bytes")
        other = stack.enter_context(served.client())
        other.send(request("/held/other"))
        served.get("/await-held/other")
        served.drain()
        for client in clients:
            client.send(b"still")
            assert client.exactly(5) == b"still"
        served.open_gate("other")
        assert other.answer().closes
        other.sock.close()
        for client in clients:
            assert client.rest() == b""
        served.stopped()


def test_a_drain_ends_it_at_half_of_its_time(serve):
    served = serve("tests.wsgi.upgraded:by_path", options={"keepalive_timeout": LONG}, stop_timeout=3)
    with served.client() as client, served.client() as other:
        switch(client, "/echo-bytes")
        other.send(request("/held/half"))
        served.get("/await-held/half")
        served.drain()
        client.send(b"still")
        assert client.exactly(5) == b"still"
        assert client.rest() == b""
        served.open_gate("half")
        assert other.answer().body == b"let go"
        served.stopped()
    assert "still busy" not in served.log()


def test_one_that_begins_during_a_drain_is_ended_too(serve):
    served = serve("tests.wsgi.upgraded:by_path", options={"keepalive_timeout": LONG}, stop_timeout=LONG)
    with served.client() as client:
        client.get("/hello")
        served.drain()
        switch(client, "/echo-bytes")
        assert client.rest() == b""
        served.stopped()


@pytest.mark.parametrize("path", ["/selector", "/push"])
def test_a_drain_reaches_those_who_wait_elsewhere(serve, path):
    """One by a selector of its own; one that never reads is cut at the end."""
    served = serve("tests.wsgi.upgraded:by_path", stop_timeout=2)
    with served.client() as client:
        switch(client, path)
        served.drain()
        with contextlib.suppress(ConnectionError):
            assert client.rest() == b""
        for number in range(3):
            served.open_gate(f"push-{number}")
        served.stopped()


def test_who_does_not_heed_the_end_is_cut(serve):
    served = serve("tests.wsgi.upgraded:by_path", stop_timeout=1)
    with served.client() as client:
        switch(client, "/stubborn")
        served.drain()
        served.stopped()
        with contextlib.suppress(ConnectionError):
            client.rest()


def test_a_stop_at_once_cuts_it(serve):
    served = serve("tests.wsgi.upgraded:by_path", stop_timeout=LONG)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(3)]
        for client, path in zip(clients, ["/echo-bytes", "/selector", "/large/20000000"], strict=True):
            switch(client, path)
        served.cut()
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.rest()
        served.stopped()


def test_clients_that_come_again_find_the_successor(serve):
    """Twenty clients talk all the time, and connect again when they are ended: nobody is refused, or meets a reset."""
    old = serve("tests.wsgi.upgraded:by_path", share=True)
    new = serve("tests.wsgi.upgraded:by_path", share=True, bind=old.address)

    def talk(stop: threading.Event) -> Iterator[None]:
        while not stop.is_set():
            with old.client() as client:
                switch(client, "/echo-bytes")
                with contextlib.suppress(EOFError):
                    while not stop.is_set():
                        client.send(b"word")
                        assert client.exactly(4) == b"word"
                        yield

    check_takeover(old, new, talk, clients=20, answers=5)
