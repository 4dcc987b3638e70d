"""The PROXY header that a connection begins with: what it says, what is none, and what becomes of the connection."""

from __future__ import annotations

import ipaddress
import json
import struct
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd.wsgi.proxy import MOST_BEHIND, Header, HeaderRefused, parse
from tests.wsgi.client import Client, request

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXIED = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX = 0x11, 0x12, 0x21, 0x22, 0x31
HEADER = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 443\r\n"
TLS_HELLO = bytes.fromhex("160301020001000001fc0303")
LONG = 60.0  # seconds; never waited for


def binary(kind: int = TCP4, block: bytes = b"", command: int = PROXIED, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, len(block) if length is None else length) + block


def inet(source: str, port: int, more: bytes = b"") -> bytes:
    return ipaddress.IPv4Address(source).packed + bytes([5, 6, 7, 8]) + struct.pack("!HH", port, 443) + more


def inet6(source: str, port: int) -> bytes:
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address("2001:db8::2").packed
    return ends + struct.pack("!HH", port, 443)


BINARY = binary(TCP4, inet("1.2.3.4", 1111))


class Good(NamedTuple):
    name: str
    data: bytes
    protocol: str
    source: tuple[str, str] | None = None
    destination: tuple[str, str] | None = None


ONE, TWO = ("1.2.3.4", "1111"), ("5.6.7.8", "443")

GOOD = [
    Good("TCP4", HEADER, "TCP4", ONE, TWO),
    Good("TCP6", b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n", "TCP6", ("2001:db8::1", "0"), ("::1", "65535")),
    Good(
        "the longest addresses",
        b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b"ffff:" * 8)[:-1], (b"ffff:" * 8)[:-1]),
        "TCP6",
        (("ffff:" * 8)[:-1], "65535"),
        (("ffff:" * 8)[:-1], "65535"),
    ),
    Good("IPv4 mapped into IPv6", b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1111 1\r\n", "TCP6", ONE, ("::1", "1")),
    Good("unknown", b"PROXY UNKNOWN\r\n", "UNKNOWN"),
    Good("unknown with addresses", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "UNKNOWN"),
    Good("unknown with anything", b"PROXY UNKNOWN \xff\x00 a  b\r\n", "UNKNOWN"),
    Good("the longest line", b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", "UNKNOWN"),
    Good("2: TCP4", BINARY, "TCP4", ONE, TWO),
    Good("2: UDP4, of a proxy that speaks QUIC", binary(UDP4, inet("1.2.3.4", 1111)), "TCP4", ONE, TWO),
    Good("2: TCP6", binary(TCP6, inet6("2001:db8::1", 1)), "TCP6", ("2001:db8::1", "1"), ("2001:db8::2", "443")),
    Good("2: IPv4 mapped into IPv6", binary(TCP6, inet6("::ffff:1.2.3.4", 1111)), "TCP6", ONE, ("2001:db8::2", "443")),
    Good("2: UNIX", binary(UNIX, b"/run/a".ljust(216, b"\0")), "UNIX", ("", ""), ("", "")),
    Good("2: values behind", binary(TCP4, inet("1.2.3.4", 1111, b"\x02\x00\x03abc")), "TCP4", ONE, TWO),
    Good("2: nonsense behind", binary(TCP4, inet("1.2.3.4", 1111, b"\xff" * 100)), "TCP4", ONE, TWO),
    Good("2: as long as it may be", binary(TCP4, inet("1.2.3.4", 1111, b"x" * (MOST_BEHIND - 12))), "TCP4", ONE, TWO),
    Good("2: local", binary(0, b"", LOCAL), "LOCAL"),
    Good("2: local, with addresses", binary(TCP4, inet("1.2.3.4", 1), LOCAL), "LOCAL"),
    Good("2: local, whatever family", binary(0xFF, b"xx", LOCAL), "LOCAL"),
    Good("2: unspecified", binary(0x00), "UNKNOWN"),
    Good("2: unspecified, with something", binary(0x00, b"xyz"), "UNKNOWN"),
    Good("2: unspecified family", binary(0x01), "UNKNOWN"),
    Good("2: unspecified transport", binary(0x10, inet("1.2.3.4", 1)), "UNKNOWN"),
]


class Bad(NamedTuple):
    name: str
    data: bytes
    reason: str
    http: bool = False


BAD = [
    Bad("a request", request("/hello"), "no header", http=True),
    Bad("one letter of a request", b"G", "no header begins so", http=True),
    Bad("POST", b"PO", "as above", http=True),
    Bad("HTTP/2", b"PRI * HTTP/2.0\r\n", "as above", http=True),
    Bad("a request behind an empty line", b"\r\nGET", "as above", http=True),
    Bad("TLS", TLS_HELLO, "a ClientHello"),
    Bad("zeros", b"\x00", "nothing"),
    Bad("lower case", b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "the word is in capitals", http=True),
    Bad("tab", b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n", "exactly one space", http=True),
    Bad("two spaces", b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "exactly one space"),
    Bad("two spaces inside", b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", "exactly one space"),
    Bad("space at the end", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "nothing before the CRLF"),
    Bad("bare LF", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "a CRLF ends it"),
    Bad("bare LF, unknown", b"PROXY UNKNOWN\n", "as above"),
    Bad("bare LF within", b"PROXY UNKNOWN a\nb\r\n", "as above"),
    Bad("bare CR within", b"PROXY UNKNOWN a\rb\r\n", "as above"),
    Bad("two CRs", b"PROXY UNKNOWN\r\r\n", "as above"),
    Bad("nothing", b"PROXY \r\n", "a protocol is required"),
    Bad("other protocol", b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "none of version 1"),
    Bad("longer word", b"PROXY UNKNOWNS\r\n", "none of version 1"),
    Bad("no ports", b"PROXY TCP4 1.2.3.4 5.6.7.8\r\n", "ports are required"),
    Bad("port out of range", b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "16 bits"),
    Bad("port out of range, destination", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", "16 bits"),
    Bad("port with leading zero", b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "octal elsewhere"),
    Bad("signed port", b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "digits"),
    Bad("leading zero", b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", "octal elsewhere"),
    Bad("short address", b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", "four numbers"),
    Bad("number out of range", b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", "8 bits"),
    Bad("the other family", b"PROXY TCP4 ::1 ::2 1 2\r\n", "the protocol says which"),
    Bad("the other family in IPv6", b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "the protocol says which"),
    Bad("mixed families", b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n", "the protocol says which"),
    Bad("two gaps", b"PROXY TCP6 1::2::3 ::1 1 2\r\n", "ambiguous"),
    Bad("zone", b"PROXY TCP6 fe80::1%a ::1 1 2\r\n", "no part of an address"),
    Bad("name", b"PROXY TCP4 localhost 5.6.7.8 1 2\r\n", "no address"),
    Bad("NUL", b"PROXY TCP4 1.2.3.4\x00 5.6.7.8 1 2\r\n", "strings end at NUL elsewhere"),
    Bad("line too long", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "108 bytes"),
    Bad("line that does not end", b"PROXY UNKNOWN " + b"x" * 93, "107 bytes, and no LF"),
    Bad("2: version 1", binary(command=0x11), "never defined"),
    Bad("2: version 3", binary(command=0x31), "not defined yet"),
    Bad("2: other command", binary(command=0x22), "unassigned"),
    Bad("2: other family", binary(0x41, b"x" * 100), "unassigned"),
    Bad("2: other transport", binary(0x13, b"x" * 100), "unassigned"),
    Bad("2: too short for IPv4", binary(TCP4, b"x" * 11), "12 bytes"),
    Bad("2: too short for IPv6", binary(TCP6, b"x" * 35), "36 bytes"),
    Bad("2: too short for UNIX", binary(UNIX, b"x" * 215), "216 bytes"),
    Bad("2: too long", binary(TCP4, length=MOST_BEHIND + 1), "refused before it is there"),
    Bad("2: longest that can be said", binary(TCP4, length=65535), "as above"),
    Bad("2: signature gone wrong", SIGNATURE[:-1] + b"\r", "another byte"),
]


def names(case: Good | Bad) -> str:
    return case.name


@pytest.mark.parametrize("case", GOOD, ids=names)
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01"])
def test_a_header(case, behind):
    assert parse(case.data + behind) == Header(len(case.data), case.protocol, case.source, case.destination)


@pytest.mark.parametrize("case", GOOD, ids=names)
def test_a_part_of_a_header_is_none_yet(case):
    assert [parse(case.data[:size]) for size in range(len(case.data))] == [None] * len(case.data)


@pytest.mark.parametrize("case", BAD, ids=names)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_no_header(case, kind):
    with pytest.raises(HeaderRefused) as caught:
        parse(kind(case.data))
    assert caught.value.http == case.http


# What begins as a header, and what does not.
streams = st.builds(
    lambda start, rest: start + rest,
    st.sampled_from(
        [b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21", HEADER, BINARY[:-5]]
    ),
    st.binary(max_size=200),
)


def outcome(data: bytes) -> Header | str | None:
    try:
        return parse(data)
    except HeaderRefused:
        return "refused"


@given(data=streams)
def test_whatever_comes_is_a_header_or_refused_or_goes_on(data):
    found = outcome(data)
    if isinstance(found, Header):
        assert 0 < found.size <= len(data)
    elif found is None:
        assert len(data) < 16 + MOST_BEHIND


@given(data=streams, share=st.floats(0, 1))
def test_it_makes_no_difference_how_a_stream_is_cut(data, share):
    assert outcome(data[: int(len(data) * share)]) in (None, outcome(data))


ports = st.integers(0, 65535)


@given(ends=st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), ports, ports), rest=st.binary())
def test_what_is_written_for_ipv4_is_read(ends, rest):
    source, destination, *numbers = ends
    first, second = (str(source), str(numbers[0])), (str(destination), str(numbers[1]))
    line = f"PROXY TCP4 {first[0]} {second[0]} {first[1]} {second[1]}\r\n".encode()
    assert parse(line + rest) == Header(len(line), "TCP4", first, second)
    data = binary(TCP4, source.packed + destination.packed + struct.pack("!HH", *numbers))
    assert parse(data + rest) == Header(len(data), "TCP4", first, second)


@given(ends=st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6), ports, ports), rest=st.binary())
def test_what_is_written_for_ipv6_is_read(ends, rest):
    source, destination, *numbers = ends
    first, second = (
        (str(address.ipv4_mapped or address), str(port))
        for address, port in zip((source, destination), numbers, strict=True)
    )
    line = f"PROXY TCP6 {source} {destination} {first[1]} {second[1]}\r\n".encode()
    assert parse(line + rest) == Header(len(line), "TCP6", first, second)
    data = binary(TCP6, source.packed + destination.packed + struct.pack("!HH", *numbers))
    assert parse(data + rest) == Header(len(data), "TCP6", first, second)


@pytest.fixture(scope="module")
def proxied(start):
    found = start(options={"proxy_protocol": True, "forwarded_allow_ips": ["127.0.0.1", "unix", "9.9.9.9"]})
    yield found
    found.end()


def told(client: Client) -> dict[str, str]:
    return json.loads(client.answer().body)


def peer(found: dict[str, str]) -> tuple[str, str]:
    return found["REMOTE_ADDR"], found["REMOTE_PORT"]


@pytest.mark.parametrize("case", [case for case in GOOD if len(case.data) < 300], ids=names)
def test_a_connection_is_that_of_whom_its_header_names(proxied, case):
    with proxied.client() as client:
        real = client.sock.getsockname()
        client.send(case.data + request("/environ") + request("/environ"))  # in one packet
        for _ in range(2):
            found = told(client)
            assert peer(found) == (case.source or (real[0], str(real[1])))
            assert f"{found['SERVER_NAME']}:{found['SERVER_PORT']}" == proxied.address
            assert (found.get("PROXY_ADDR", ""), found.get("PROXY_PORT", "")) == (case.destination or ("", ""))
            assert found.get("PROXY_PROTOCOL") == (case.protocol if case.source else None)
        client.send(request("/environ"))
        assert peer(told(client)) == (case.source or (real[0], str(real[1])))


@pytest.mark.parametrize("header", [HEADER, BINARY], ids=["1", "2"])
def test_a_header_may_be_split_anywhere(proxied, header):
    for at in range(1, len(header) + 5):
        with proxied.client() as client:
            data = header + request("/environ")
            client.send(data[:at])
            client.send(data[at:])
            assert peer(told(client)) == ONE


@pytest.mark.parametrize("header", [HEADER, BINARY], ids=["1", "2"])
def test_a_header_may_come_byte_by_byte_and_a_while_before_the_request(proxied, header):
    with proxied.client() as client:
        for byte in header:
            client.send(bytes([byte]))
        with proxied.client() as other:  # when this one is answered, the loop has read what was sent before
            other.send(header + request("/environ"))
            assert peer(told(other)) == ONE
        client.send(request("/environ"))
        assert peer(told(client)) == ONE


@pytest.mark.parametrize("case", BAD, ids=names)
def test_a_connection_without_a_header_is_closed(proxied, case):
    with proxied.client() as client:
        client.send(case.data)
        if case.http:
            answer = client.answer()
            assert (answer.status, answer.closes) == (400, True)
            assert answer.body == b"400 Bad Request: this port expects a header of the PROXY protocol first\n"
        assert client.rest() == b""


@pytest.mark.parametrize("start_of_header", [b"", HEADER[:1], HEADER[:-1], SIGNATURE, BINARY[:-1]])
def test_a_header_that_does_not_come_in_time(serve, start_of_header):
    served = serve(options={"proxy_protocol": True, "header_timeout": 0.3, "keepalive_timeout": LONG})
    with served.client() as client:
        began = time.monotonic()
        client.send(start_of_header)
        assert client.rest() == b""
        assert 0.2 < time.monotonic() - began < 10


def test_a_request_that_does_not_come_in_time_behind_its_header(serve):
    with serve(options={"proxy_protocol": True, "header_timeout": 0.3}).client() as client:
        client.send(HEADER + b"GET /")
        assert client.answer().status == 408


def test_a_second_header_is_a_malformed_request(proxied):
    for header in (HEADER, BINARY):
        with proxied.client() as client:
            client.send(header + header + request("/hello"))
            assert client.answer().status == 400


def test_a_peer_that_is_no_proxy_speaks_plain_http(proxied):
    with proxied.client(source="127.0.0.2") as client:
        assert json.loads(client.get("/environ").body)["REMOTE_ADDR"] == "127.0.0.2"


@pytest.mark.parametrize("header", [HEADER, BINARY], ids=["1", "2"])
def test_a_header_of_a_peer_that_is_no_proxy_is_a_malformed_request(proxied, served, header):
    for client in (proxied.client(source="127.0.0.2"), served.client()):
        with client:
            client.send(header + request("/hello"))
            assert client.answer().status == 400


def test_a_proxy_on_a_unix_socket(serve, short_tmp):
    with serve(bind=f"unix:{short_tmp}/s", options={"proxy_protocol": True}).client() as client:
        client.send(HEADER + request("/environ"))
        assert peer(told(client)) == ONE


def test_the_private_listener_expects_no_header(serve, short_tmp):
    serve(private=str(short_tmp / "private"), options={"proxy_protocol": True, "forwarded_allow_ips": ["*"]})
    with Client(f"unix:{short_tmp}/private") as client:
        assert client.get("/hello").status == 200


FORGED = request("/environ", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("header", "believed", "reason"),
    [
        (HEADER, False, "the proxy hands on what the client sends"),
        (BINARY, False, "as above"),
        (b"PROXY TCP4 9.9.9.9 5.6.7.8 1 2\r\n", True, "a proxy of ours behind that one"),
        (binary(UNIX, b"\0" * 216), True, "as above: unix is allowed"),
        (b"PROXY UNKNOWN\r\n", False, "nobody knows who speaks"),
        (binary(0x00), False, "as above"),
        (binary(0x00, command=LOCAL), True, "the proxy itself speaks"),
    ],
)
def test_whose_forwarded_headers_are_believed_behind_a_header(proxied, header, believed, reason):
    with proxied.client() as client:
        client.send(header + FORGED)
        found = told(client)
    assert (found["REMOTE_ADDR"] == "6.6.6.6") == believed, reason
    assert (found["wsgi.url_scheme"] == "https") == believed, reason


def test_whoever_may_connect_is_not_whoever_is_named(serve):
    options = {"proxy_protocol": True, "forwarded_allow_ips": ["*", "9.9.9.9"]}
    served = serve(options=options)
    for source, address in (("127.0.0.1", "1.2.3.4"), ("127.0.0.2", "1.2.3.4"), ("127.0.0.1", "9.9.9.9")):
        with served.client(source=source) as client:
            client.send(b"PROXY TCP4 %b 5.6.7.8 1 2\r\n" % address.encode() + FORGED)
            assert told(client)["REMOTE_ADDR"] == ("6.6.6.6" if address == "9.9.9.9" else address)


def settled(served) -> None:
    """Return when the loop has read what was sent before."""
    with served.client() as client:
        client.send(HEADER + request("/hello", "Connection: close"))
        assert client.answer().status == 200


def test_a_connection_that_owes_its_header_does_not_hold_up_a_drain(serve):
    served = serve(options={"proxy_protocol": True, "header_timeout": LONG, "keepalive_timeout": 0.2})
    with served.client() as silent, served.client() as half:
        half.send(HEADER[:5])
        settled(served)
        served.drain()
        assert silent.rest() == b""
        assert half.rest() == b""
        served.stopped()


def test_a_header_that_ends_while_the_worker_drains(serve):
    served = serve(options={"proxy_protocol": True, "keepalive_timeout": LONG})
    with served.client() as client:
        client.send(HEADER[:5])
        settled(served)
        served.drain()
        client.send(HEADER[5:] + request("/environ"))
        answer = client.answer()
        assert answer.closes
        assert peer(json.loads(answer.body)) == ONE
        served.stopped()


def test_a_cut_ends_a_connection_that_owes_its_header(serve):
    served = serve(options={"proxy_protocol": True})
    with served.client() as client:
        client.send(HEADER[:5])
        settled(served)
        served.cut()
        assert client.rest() == b""
        served.stopped()
