"""WebSockets, by the libraries that people use on both sides."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.waiting import until
from tests.wsgi.client import TIMEOUT

if TYPE_CHECKING:
    from tests.wsgi.conftest import Served

TRANSPORTS = ["plain", "tls"]
LIBRARIES = ["simple", "wsproto", "websockets", "flask"]
MEGABYTES = 5 << 20


@pytest.fixture(scope="module")
def server(start, authority):
    found = tamed(start("tests.wsgi.websocket_apps:by_path", service={"threads": 250}), authority)
    yield found
    found.end()


def tamed(served: Served, authority) -> Served:
    """Have clients speak TLS 1.2 with a server, if any.

    The client `websockets` lets two threads use one connection of OpenSSL's, which is not made for that: with the
    tickets of TLS 1.3 it stumbles now and then, over its own server too.
    """
    if served.tls is not None:
        served.tls = authority.client()
        served.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    return served


def url(served, path: str) -> str:
    return f"{'wss' if served.tls else 'ws'}://{served.address}/{path}"


def websockets_client(served, path: str) -> ClientConnection:
    return connect(
        url(served, path),
        ssl=served.tls,
        server_hostname="localhost" if served.tls else None,
        proxy=None,
        max_size=None,
        open_timeout=TIMEOUT,
        close_timeout=TIMEOUT,
    )


def websocket_client(served, path: str) -> Any:
    return websocket.create_connection(
        url(served, path),
        sslopt={"context": served.tls, "server_hostname": "localhost"} if served.tls else None,
        timeout=TIMEOUT,
        http_no_proxy=["*"],
        enable_multithread=True,
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_messages_come_back(server, library):
    with websockets_client(server, library) as client:
        for word in ("a word", "", "w\u00f6rd \U0001f600", b"\x00\xff", "x" * 70_000):
            client.send(word)
            assert client.recv(TIMEOUT) == word
    assert client.close_code == 1000


@pytest.mark.parametrize("application", ["documented-simple", "documented-wsproto"])
def test_what_the_documentation_shows(server, application):
    with websockets_client(server, application) as client:
        for word in ("a word", "x" * 200_000):
            client.send(word)
            assert client.recv(TIMEOUT) == word
        assert client.ping().wait(TIMEOUT)
    assert client.close_code == 1000


@pytest.mark.parametrize("library", LIBRARIES)
def test_messages_come_back_to_another_client(server, library):
    client = websocket_client(server, library)
    client.send("a word")
    assert client.recv() == "a word"
    client.send_binary(b"\x00\xff")
    assert client.recv() == b"\x00\xff"
    client.ping("are you there")
    opcode, frame = client.recv_data_frame(control_frame=True)
    while opcode == websocket.ABNF.OPCODE_PING:
        opcode, frame = client.recv_data_frame(control_frame=True)
    assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, b"are you there")
    client.close(timeout=TIMEOUT)


@pytest.mark.parametrize("library", LIBRARIES)
def test_large_messages(server, library):
    with websockets_client(server, library) as client:
        for word in ("\u20ac" * (MEGABYTES // 3), bytes(range(256)) * (MEGABYTES >> 8)):
            client.send(word)
            assert client.recv(TIMEOUT) == word
        client.send([b"in ", b"several ", b"frames"])
        assert client.recv(TIMEOUT) == b"in several frames"


@pytest.mark.parametrize("library", LIBRARIES)
def test_pings_of_the_client(server, library):
    with websockets_client(server, library) as client:
        for _ in range(3):
            assert client.ping().wait(TIMEOUT)


def test_pings_of_the_server(server):
    """It would close the connection after two of them without an answer, which the client gives by itself."""
    client = websocket_client(server, "pinging")
    for _ in range(4):
        opcode, _ = client.recv_data_frame(control_frame=True)
        assert opcode == websocket.ABNF.OPCODE_PING
    client.send("still there")
    assert client.recv() == "still there"
    client.close(timeout=TIMEOUT)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_server_closes(server, library):
    with websockets_client(server, library) as client:
        client.send("close")
        with pytest.raises(ConnectionClosed):
            client.recv(TIMEOUT)
    assert (client.close_code, client.close_reason) == (1001, "bye")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_server_speaks_while_the_client_is_silent(server, library):
    with websockets_client(server, library) as client:
        client.send("push 1000")
        assert [client.recv(TIMEOUT) for _ in range(1000)] == [f"message {number}" for number in range(1000)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_hundred_at_once(server, library):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(websockets_client(server, library)) for _ in range(100)]
        for _ in range(3):
            for number, client in enumerate(clients):
                client.send(f"word {number}")
            assert [client.recv(TIMEOUT) for client in clients] == [f"word {number}" for number in range(100)]
        assert server.get("/hello") == b"Hello, world!"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_that_vanishes_leaves_nothing_behind(server, library):
    until(lambda: server.counters()["in_flight"] == 0)
    errors = server.counters()["errors"]
    clients = [websocket_client(server, library) for _ in range(5)]
    for client in clients:
        client.send("push 10")
    until(lambda: server.counters()["in_flight"] == 5)
    for client in clients:
        client.sock.close()
    until(lambda: server.counters()["in_flight"] == 0)
    assert server.counters()["errors"] == errors


@pytest.mark.parametrize(("library", "code"), [("simple", None), ("wsproto", 1001), ("websockets", 1001)])
def test_a_drain_ends_a_conversation(serve, authority, library, code):
    served = tamed(serve("tests.wsgi.websocket_apps:by_path", stop_timeout=60), authority)
    with websockets_client(served, library) as client:
        client.send("a word")
        assert client.recv(TIMEOUT) == "a word"
        served.drain()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(TIMEOUT)
        assert (closed.value.rcvd.code if closed.value.rcvd else None) == code
        served.stopped()


def test_what_is_no_websocket_is_answered_by_flask(server):
    assert server.get("/page") == b"a page"
    with server.client() as client:
        assert client.get("/flask").status == 400
