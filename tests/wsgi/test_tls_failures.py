"""Clients that do TLS badly, or not at all, and what the server holds of those that do not read."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import ssl
import threading
from typing import Any

import pytest

from forkd.core.spec import TlsSpec
from forkd.wsgi.connection import Connection
from forkd.wsgi.listener import Listener
from forkd.wsgi.native_engine import NativeWaiter
from forkd.wsgi.refusal import TlsFailed
from forkd.wsgi.tls import Tls
from tests.waiting import until
from tests.wsgi.client import Client, request
from tests.wsgi.tls_client import TlsEnd, Unannounced

TRANSPORTS = ["tls"]
LONG = 60.0  # seconds; never waited for
UPDATE_REQUESTED = 1  # SSL_KEY_UPDATE_REQUESTED


def rest(sock: Any) -> bytes:
    """Read up to an end of the connection, however it comes about."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            received += piece
    return received


def hello(context: ssl.SSLContext) -> bytes:
    """Return how a client begins."""
    end = TlsEnd(None, context)
    with contextlib.suppress(ssl.SSLWantReadError):
        end.tls.do_handshake()
    return end.outgoing.read()


class Openssl:
    """Functions of OpenSSL that the module `ssl` does not offer, on a connection of its making."""

    def __init__(self, end: Any) -> None:
        self._library = ctypes.CDLL(ssl._ssl.__file__)  # type: ignore[attr-defined]  # the module below
        self._end = end
        if not hasattr(self._library, "SSL_key_update"):
            pytest.skip("this Python does not let one reach its OpenSSL")
        behind_head_and_socket = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        inner: Any = end.tls._sslobj
        self._pointer = ctypes.c_void_p.from_address(id(inner) + behind_head_and_socket)
        assert self.call("SSL_version") in (0x303, 0x304)

    def call(self, name: str, *arguments: int) -> int:
        return getattr(self._library, name)(self._pointer, *arguments)

    def new_keys(self) -> bytes:
        """Return the message that asks the other side for new keys, and announces some."""
        assert self.call("SSL_key_update", UPDATE_REQUESTED) == 1
        assert self.call("SSL_do_handshake") == 1
        return self._end.outgoing.read()


# --- a server and its clients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [request("/hello"), b"P", request("/hello", method="OPTIONS")[:9]])
def test_plain_http_is_told_what_to_do(serve, first):
    served = serve(level="DEBUG")
    with Client(served.address) as client:
        client.send(first)
        answer = client.answer()
        assert (answer.status, answer.closes) == (400, True)
        assert answer.body == b"400 Bad Request: this port speaks TLS: https\n"
        assert client.rest() == b""
    served.logged("TLS with 127.0.0.1: it speaks plain HTTP")


@pytest.mark.parametrize(
    "first", [b"\x00" * 20, b"\x16\x03\x01\x00\x05hello", b"\xff\xfe" * 5000, b"get / HTTP/1.1\r\n\r\n"]
)
def test_rubbish_is_closed(serve, first):
    served = serve(level="DEBUG", options={"header_timeout": LONG})
    with Client(served.address) as client:
        client.send(first)
        assert not rest(client.sock).startswith(b"HTTP")
    served.logged("TLS with 127.0.0.1: [SSL")
    assert served.get("/hello") == b"Hello, world!"


def test_rubbish_after_the_handshake_is_closed(served):
    with served.client() as client:
        client.get("/hello")
        client.sock.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.rest()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_handshake_that_does_not_go_on_is_closed_in_time(serve, share):
    served = serve(options={"header_timeout": 0.5, "keepalive_timeout": LONG})
    begun = hello(served.tls)
    with Client(served.address) as client:
        client.send(begun[: int(len(begun) * share)])
        assert rest(client.sock) == b""


def test_a_handshake_that_trickles_is_closed_in_time(serve):
    """Each byte must not win the client new time."""
    served = serve(options={"header_timeout": 0.5, "keepalive_timeout": LONG})
    with Client(served.address) as client:
        client.sock.settimeout(0.05)
        trickle = iter(hello(served.tls))

        def closed() -> bool:
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                return client.sock.recv(1) == b""
            client.send(bytes([next(trickle)]))
            return False

        until(closed, timeout=10)


def test_a_handshake_without_a_request_is_closed_in_time(serve):
    with serve(options={"header_timeout": 0.5, "keepalive_timeout": LONG}).client() as client:
        assert client.rest() == b""


def test_clients_that_come_and_go_are_no_news(serve):
    served = serve()
    for data in (b"", b"\x16", hello(served.tls)):
        with Client(served.address) as client:
            client.send(data)
    with served.client() as client:
        client.sock.close()
    assert served.get("/hello") == b"Hello, world!"
    assert served.log() == ""


def test_a_client_may_ask_for_new_keys_now_and_then(client):
    openssl = Openssl(client.sock)
    for _ in range(50):
        client.sock.raw.sendall(openssl.new_keys() + client.sock.encrypt(request("/sized/100000")))
        assert len(client.answer().body) == 100000


def test_a_client_that_asks_for_nothing_but_new_keys_is_closed(served):
    with served.client() as client:
        openssl = Openssl(client.sock)
        for _ in range(2000):
            client.sock.raw.sendall(openssl.new_keys())
        with pytest.raises(Unannounced):
            client.rest()
        assert served.get("/hello") == b"Hello, world!"


def test_a_client_cannot_have_hands_shaken_again(served, authority):
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Client(served.address, tls=context) as client:
        openssl = Openssl(client.sock)
        assert openssl.call("SSL_renegotiate") == 1
        openssl.call("SSL_do_handshake")
        client.sock.flush()
        with pytest.raises((ssl.SSLError, Unannounced)):
            client.get("/hello")
    assert served.get("/hello") == b"Hello, world!"


# --- a socket whose other end does not read --------------------------------------------------------------------------


class Ends:
    """Both ends of a connection that has room for little."""

    def __init__(self, pair, authority) -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.environ: dict[str, str] = {}
        self._raw = here
        self.server = Tls(TlsSpec(*pair)).wrap(here, self.environ)
        self.listener = Listener(socket.create_server(("127.0.0.1", 0)), {})
        self.client = TlsEnd(there, authority.client())

    def shake_hands(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.client.tls.do_handshake()
        self.client.flush()
        self.turn()
        self.client.feed()
        self.client.tls.do_handshake()
        self.client.flush()
        self.turn()

    def turn(self) -> None:
        with pytest.raises(BlockingIOError):
            self.server.recv(1)

    def fill(self) -> bytes:
        """Leave no room for anything; return what takes it."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += self._raw.send(bytes(1))
        return bytes(sent)


@pytest.fixture
def ends(pair, authority):
    ends = Ends(pair, authority)
    yield ends
    ends.client.close()
    ends.server.close()
    ends.listener.close()


def test_little_waits_to_be_sent(ends):
    ends.shake_hands()
    data = bytes(range(256)) * 4096
    sent = 0
    while sent < len(data):
        try:
            sent += ends.server.send(memoryview(data)[sent:])
        except BlockingIOError:
            assert len(ends.server._unsent) < 70_000
            ends.client.feed()
    ends.server.close()
    received = b""
    while piece := ends.client.recv(1 << 20):
        received += piece
    assert received == data


def test_the_last_word_waits_for_room(ends):
    ends.shake_hands()
    ends.client.feed()  # the session's tickets
    filled = ends.fill()
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            ends.server.end()
    assert ends.client.raw.recv(len(filled)) == filled
    ends.server.end()
    assert ends.client.recv(1) == b""
    ends.client.sendall(b"no matter what")
    assert ends.server.recv(100)


def test_a_thread_waits_until_there_is_room_for_the_last_word(ends):
    """The last byte of a response may have taken the last room in the kernel."""
    ends.shake_hands()
    ends.client.feed()
    filled = ends.fill()
    conn = Connection(ends.server, ("", ""), ends.listener, NativeWaiter())
    conn.tls = ends.server
    thread = threading.Thread(target=conn.end)
    thread.start()
    assert ends.client.raw.recv(len(filled)) == filled
    thread.join()
    assert ends.client.recv(1) == b""


def test_a_cut_is_not_announced(ends):
    ends.shake_hands()
    ends.server.send(b"begun")
    ends.server.cut()
    ends.server.close()
    assert ends.client.recv(100) == b"begun"
    with pytest.raises(Unannounced):
        ends.client.recv(1)


def test_who_does_not_read_in_the_handshake_is_given_up(ends, authority):
    ends.fill()
    ends.client.raw.sendall(hello(authority.client()))
    with pytest.raises(TlsFailed, match="does not read"):
        ends.server.recv(1)


def test_who_does_not_read_new_keys_is_given_up(ends):
    ends.shake_hands()
    ends.fill()
    openssl = Openssl(ends.client)

    def ask() -> None:
        for _ in range(10_000):
            ends.client.raw.sendall(openssl.new_keys() + ends.client.encrypt(b"."))
            assert ends.server.recv(100) == b"."

    with pytest.raises(TlsFailed, match="does not read"):
        ask()
    assert len(ends.server._unsent) < 20_000


def test_bytes_that_were_read_before_are_the_first(pair, authority):
    here, there = socket.socketpair()
    here.setblocking(False)
    first = hello(authority.client())
    server = Tls(TlsSpec(*pair)).wrap(here, {}, first[:1])
    with pytest.raises(BlockingIOError):
        server.recv(1)
    there.sendall(first[1:])
    with pytest.raises(BlockingIOError):
        server.recv(1)
    assert there.recv(1) == b"\x16"
    server.close()
    there.close()
