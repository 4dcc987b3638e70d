"""TLS as clients see it: who they talk to, who they are, and where a request ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests

from forkd import Service, sockets
from forkd.wsgi import Server
from tests.certificates import Authority, openssl
from tests.wsgi import apps
from tests.wsgi.client import TIMEOUT, Client, chunked, request
from tests.wsgi.tls_client import TlsEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.wsgi.conftest import Served

TRANSPORTS = ["tls"]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
LONG = 60.0  # seconds; never waited for
CHUNKED = "Transfer-Encoding: chunked"
ADA = '/C=DE/O=Müller, Söhne/OU=a+b=c;<>/CN= Ada \\"Ada\\" /DC=#1/serialNumber=7'


@pytest.fixture(scope="session")
def stranger(tmp_path_factory) -> Authority:
    """Return an authority that the servers do not know."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def asking(serve, pair, authority) -> Callable[[str], Served]:
    """Return a function that starts a server which asks clients who they are."""
    return lambda mode: serve(options={"tls": {**pair._asdict(), "ca": authority.certfile, "client_auth": mode}})


@contextlib.contextmanager
def end(served, context: ssl.SSLContext) -> Iterator[TlsEnd]:
    """Yield a client's end before its handshake."""
    with Client(served.address) as client:
        assert isinstance(client.sock, socket.socket)
        yield TlsEnd(client.sock, context)


def environ(served, context: ssl.SSLContext | None = None) -> dict[str, str]:
    with Client(served.address, tls=context or served.tls) as client:
        return json.loads(client.get("/environ").body)


def converse(client: TlsEnd) -> bytes:
    """Shake hands, send a request, and return what comes."""
    client.shake_hands(request("/echo", method="POST", body=bytes(100_000)))
    return client.recv(65536)


# --- who talks to whom -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_application_is_told_of_tls(served, authority, version):
    context = authority.client()
    context.maximum_version = version
    found = environ(served, context)
    with Client(served.address, tls=context) as client:
        name, protocol = client.sock.tls.cipher()[:2]
    assert (found["wsgi.url_scheme"], found["HTTPS"], found["SSL_CIPHER"]) == ("https", "on", name)
    assert found["SSL_PROTOCOL"] == protocol == version.name.replace("v1_", "v1.")
    assert not [key for key in found if key.startswith("SSL_CLIENT")]


def test_older_versions_are_refused(served, authority):
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with end(served, context) as client, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        client.shake_hands()


@pytest.mark.parametrize(("offered", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None)])
def test_http_1_1_is_what_is_agreed_on(served, authority, offered, agreed):
    context = authority.client()
    context.set_alpn_protocols(offered)
    with Client(served.address, tls=context) as client:
        assert client.sock.tls.selected_alpn_protocol() == agreed
        assert client.get("/hello").status == 200


def test_unix_sockets_stay_plain(serve, short_tmp):
    served = serve(bind=["127.0.0.1:0", f"unix:{short_tmp}/a"], private=str(short_tmp / "private"))
    assert environ(served)["wsgi.url_scheme"] == "https"
    for path in ("a", "private"):
        with Client(f"unix:{short_tmp}/{path}") as client:
            found = json.loads(client.get("/environ").body)
        assert found["wsgi.url_scheme"] == "http"
        assert not found.keys() & {"HTTPS", "SSL_PROTOCOL"}


def test_a_client_shows_who_it_is(asking, authority):
    ada = authority.issue("ada", ADA)
    found = environ(asking("required"), authority.client(ada))
    assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
    named = openssl("x509", "-in", ada.certfile, "-noout", "-subject", "-nameopt", "RFC2253")
    assert found["SSL_CLIENT_S_DN"] == named.removeprefix("subject=").removesuffix("\n")
    assert found["SSL_CLIENT_CERT"] == openssl("x509", "-in", ada.certfile)


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_strangers_is_refused_and_told_so(asking, stranger, authority, mode, version):
    """Also one that has sent a request before it can know that."""
    context = authority.client(stranger.issue("mallory"))
    context.maximum_version = version
    with end(asking(mode), context) as client, pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        converse(client)


def test_a_client_may_have_to_say_who_it_is(asking, authority):
    served = asking("required")
    with end(served, authority.client()) as client, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        converse(client)


def test_a_client_need_not_say_who_it_is(asking, authority):
    found = environ(asking("optional"), authority.client())
    assert found["SSL_CLIENT_VERIFY"] == "NONE"
    assert "SSL_CLIENT_S_DN" not in found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_and_knows_its_client(asking, authority, version):
    served = asking("required")
    context = authority.client(authority.issue("grace"))
    context.maximum_version = version
    with Client(served.address, tls=context) as client:
        client.get("/hello")
        session = client.sock.tls.session
    with Client(served.address) as client:
        client.sock = TlsEnd(client.sock, context, session)
        client.sock.shake_hands()
        assert client.sock.tls.session_reused
        assert json.loads(client.get("/environ").body)["SSL_CLIENT_S_DN"] == "CN=grace"


def test_a_reset_brings_a_new_certificate_to_new_connections(serve, authority, tmp_path):
    first, second = authority.issue("first"), authority.issue("second")
    here = {"certfile": str(tmp_path / "cert"), "keyfile": str(tmp_path / "key")}

    def put(certfile: str, keyfile: str) -> None:
        shutil.copy(certfile, here["certfile"])
        shutil.copy(keyfile, here["keyfile"])

    def shown() -> bytes:
        with served.client() as client:
            return client.sock.tls.getpeercert(binary_form=True)

    def der(path: str) -> bytes:
        return ssl.PEM_cert_to_DER_cert(openssl("x509", "-in", path))

    put(*first)
    served = serve(options={"tls": here, "keepalive_timeout": LONG})
    with served.client() as kept:
        assert shown() == der(first.certfile)
        put(*second)
        served.reset()
        assert shown() == der(second.certfile)
        served.logged(f"{tmp_path}/cert is read anew")
        put(first.certfile, second.keyfile)
        served.reset()
        assert shown() == der(second.certfile)
        served.logged(
            f"tls.keyfile: {tmp_path}/key: does not fit the first certificate in {tmp_path}/cert; the certificate"
        )
        assert kept.get("/hello").status == 200


def test_a_script_may_bring_a_context_of_its_own(pair, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    service = Service(Server(apps.hello, "127.0.0.1:0", tls=context), concurrency="threads")
    service.start()
    service.reset()
    with Client(sockets.label(service.listeners["127.0.0.1:0"]), tls=authority.client()) as client:
        assert client.get("/").body == b"Hello, world!"
    service.stop(graceful=False)
    service.wait()


# --- where a request ends --------------------------------------------------------------------------------------------


class ByteByByte:
    """A socket that sends each byte by itself."""

    def __init__(self, raw) -> None:
        self.recv, self._send = raw.recv, raw.sendall
        self.close = raw.close

    def sendall(self, data: bytes) -> None:
        for byte in data:
            self._send(bytes([byte]))


def together(client: Client, data: bytes) -> None:
    """Send data, if any, and the word that nothing more will come, in one packet."""
    records = client.sock.encrypt(data) if data else b""
    client.sock.raw.sendall(records + client.sock.farewell())


def test_a_handshake_may_come_byte_by_byte(served):
    with Client(served.address) as client:
        client.sock = TlsEnd(ByteByByte(client.sock), served.tls)
        client.sock.shake_hands()
        assert client.get("/hello", "Connection: close").closes
        assert client.rest() == b""


@pytest.mark.parametrize("size", [1, 37, 38, 39, 10_000])
def test_a_handshake_comes_behind_a_proxy_header(serve, size):
    """In one packet or in several, of so many bytes."""
    served = serve(options={"proxy_protocol": True})
    with Client(served.address) as client:
        tls = TlsEnd(client.sock, served.tls)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.tls.do_handshake()
        start = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n" + tls.outgoing.read()
        for at in range(0, len(start), size):
            client.send(start[at : at + size])
        client.sock = tls
        tls.shake_hands()
        found = json.loads(client.get("/environ", "X-Forwarded-Proto: http").body)
        assert (found["REMOTE_ADDR"], found["PROXY_PORT"], found["HTTPS"]) == ("1.2.3.4", "443", "on")


def test_a_record_may_be_split_anywhere(client):
    record = client.sock.encrypt(request("/hello"))
    for at in range(1, len(record)):
        client.sock.raw.sendall(record[:at])
        client.sock.raw.sendall(record[at:])
        assert client.answer().body == b"Hello, world!"
        record = client.sock.encrypt(request("/hello"))


def test_all_of_a_record_is_served(client):
    """Nothing is left of it that the kernel could report once the first request is taken."""
    posts = (
        request("/echo", method="POST", body=b"sized") + request("/echo", CHUNKED, method="POST") + chunked(b"a", b"b")
    )
    client.send(posts + request("/hello") + request("/hello")[:-2])
    assert [client.answer().body for _ in range(3)] == [b"sized", b"ab", b"Hello, world!"]
    client.send(b"\r\n")
    assert client.answer().body == b"Hello, world!"


def test_all_of_many_records_in_one_packet_are_served(client):
    client.sock.raw.sendall(b"".join(client.sock.encrypt(request(f"/sized/{size}")) for size in range(300)))
    assert [len(client.answer().body) for _ in range(300)] == list(range(300))


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 70_000, 300_000])
def test_a_body_and_the_next_head_may_share_a_record(client, size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    client.send(request("/echo", method="POST", body=body) + request("/echo", CHUNKED, method="POST") + chunked(body))
    client.send(request("/hello"))
    assert [client.answer().body for _ in range(3)] == [body, body, b"Hello, world!"]


@pytest.mark.parametrize("path", ["/hello", "/lines"])
def test_a_client_may_say_with_its_request_that_it_is_the_last(serve, path):
    """It is answered, and closed at once, though nothing reports its end any more."""
    with serve(options={"keepalive_timeout": LONG}).client() as client:
        together(client, request(path, method="POST", body=b"x") * 2)
        assert [client.answer().status for _ in range(2)] == [200, 200]
        assert client.rest() == b""


@pytest.mark.parametrize("before", [b"", request("/hello")])
@pytest.mark.parametrize("start_of_head", [b"", b"\r\n", request("/hello")[:-2]])
def test_a_client_that_is_done_without_a_request_is_closed(serve, before, start_of_head):
    with serve(options={"header_timeout": LONG, "keepalive_timeout": LONG}).client() as client:
        together(client, before + start_of_head)
        if before:
            assert client.answer().status == 200
        assert client.rest() == b""


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("framing", ["Content-Length: 9", CHUNKED])
def test_half_a_body_is_no_body_however_the_client_ends(served, announced, framing):
    with served.client() as client:
        half = request("/swallow", framing, method="POST") + b"5\r\nab"
        if announced:
            together(client, half)
        else:
            client.send(half)
            client.sock.raw.shutdown(socket.SHUT_WR)
        assert client.remains() == b""


# --- clients of others -----------------------------------------------------------------------------------------------


def test_requests(served, authority):
    with requests.Session() as session:
        session.verify = authority.certfile
        session.trust_env = False  # an environment may name other authorities, and would win
        for _ in range(3):
            assert session.get(f"{served.url}/hello", timeout=TIMEOUT).text == "Hello, world!"
        assert len(session.post(f"{served.url}/echo", data=bytes(3_000_000), timeout=TIMEOUT).content) == 3_000_000


def test_the_client_of_the_standard_library(served, authority):
    connection = http.client.HTTPSConnection(served.address, context=authority.client(), timeout=TIMEOUT)
    for path in ("/hello", "/pieces", "/sized/1000000"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()


def test_curl(served, asking, authority, tmp_path):
    ada = authority.issue("hopper")

    def curl(url: str, *more: str) -> str:
        command = ["curl", "-sS", "--max-time", "20", "--cacert", authority.certfile, *more, url]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (tmp_path / "large").write_bytes(bytes(5_000_000))
    assert curl(f"{served.url}/hello", "--http2", "-w", " %{http_version}") == "Hello, world! 1.1"
    assert curl(f"{served.url}/ticking", "-T", str(tmp_path / "large")) == "5000000"
    assert curl(f"{served.url}/ticking", "-T", str(tmp_path / "large"), "-H", CHUNKED) == "5000000"
    found = curl(f"{asking('required').url}/environ", "--cert", ada.certfile, "--key", ada.keyfile)
    assert json.loads(found)["SSL_CLIENT_S_DN"] == "CN=hopper"
