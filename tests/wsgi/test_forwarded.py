"""Who a client is by X-Forwarded-For and X-Forwarded-Proto, and who is believed that says so."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from forkd.errors import ForkdError
from forkd.wsgi.forwarded import MOST_HOPS, Proxies
from tests.wsgi.client import Client

DEFAULT = ("127.0.0.1", "::1", "unix")
NETWORKS = ("10.0.0.0/8", "2001:db8:1::/48")


class Case(NamedTuple):
    name: str
    chain: str
    address: str | None  # None: that of who connects
    port: str = ""
    allowed: tuple[str, ...] = NETWORKS


CHAINS = [
    Case("one", "1.2.3.4", "1.2.3.4"),
    Case("IPv6", "2001:db8::1", "2001:db8::1"),
    Case("IPv6 in the form that the kernel gives", "2001:DB8:0:0::0001", "2001:db8::1"),
    Case("IPv4 mapped into IPv6 is IPv4", "::ffff:1.2.3.4", "1.2.3.4"),
    Case("with a port, as Azure writes it", "1.2.3.4:5678", "1.2.3.4", "5678"),
    Case("IPv6 with a port", "[2001:db8::1]:80", "2001:db8::1", "80"),
    Case("IPv6 in brackets", "[2001:db8::1]", "2001:db8::1"),
    Case("white space around", " \t1.2.3.4 \t", "1.2.3.4"),
    Case("what a client forges is to the left", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
    Case("proxies of ours are skipped", "6.6.6.6, 1.2.3.4, 10.0.0.1, 10.0.0.2", "1.2.3.4"),
    Case("proxies of ours in IPv6", "1.2.3.4,2001:db8:1::7", "1.2.3.4"),
    Case("proxies of ours with ports", "1.2.3.4:1, 10.0.0.1:2", "1.2.3.4", "1"),
    Case("a proxy of ours mapped into IPv6", "1.2.3.4, ::ffff:10.0.0.1", "1.2.3.4"),
    Case("a proxy of ours is the client", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
    Case("empty", "", None),
    Case("white space", " ", None),
    Case("nothing to the right", "1.2.3.4,", None),
    Case("a name", "example.com", None),
    Case("unknown, as Squid writes it", "unknown", None),
    Case("unknown behind a proxy of ours: it is the last that is known", "unknown, 10.0.0.1", "10.0.0.1"),
    Case("nothing between: what is to its left may be anyone's", "1.2.3.4,, 10.0.0.1", "10.0.0.1"),
    Case("nonsense behind a client does not matter", "<script>, 1.2.3.4", "1.2.3.4"),
    Case("port out of range", "1.2.3.4:65536", None),
    Case("port without digits", "1.2.3.4:", None),
    Case("a signed port", "1.2.3.4:+80", None),
    Case("leading zeros, octal elsewhere", "010.0.0.1", None),
    Case("three numbers, an address elsewhere", "10.0.1", None),
    Case("one number, an address elsewhere", "167772161", None),
    Case("hexadecimal, an address elsewhere", "0xa.0.0.1", None),
    Case("IPv4 in brackets", "[1.2.3.4]", None),
    Case("half a bracket", "[::1", None),
    Case("IPv6 with a zone, which can be any text", "fe80::1%eth0", None),
    Case("quoted, as in Forwarded", '"1.2.3.4"', None),
    Case("digits outside ASCII", "\xb2.2.3.4", None),
    Case("nginx on a Unix socket behind nginx", "1.2.3.4, unix:", "1.2.3.4", allowed=DEFAULT),
    Case("a Unix socket that is not believed", "1.2.3.4, unix:", ""),
    Case("all: the leftmost", "1.2.3.4, 5.6.7.8", "1.2.3.4", allowed=("*",)),
    Case("all: the leftmost that is one", "forged, 1.2.3.4, 5.6.7.8", "1.2.3.4", allowed=("*",)),
    Case("all, and nonsense next to us", "1.2.3.4, forged", None, allowed=("*",)),
    Case("no further than that", "1.1.1.1" + ", 10.0.0.1" * MOST_HOPS, "10.0.0.1"),
    Case("as far as that", "1.1.1.1" + ", 10.0.0.1" * (MOST_HOPS - 1), "1.1.1.1"),
    Case("a network that maps IPv4 into IPv6", "1.2.3.4, 10.1.1.1", "1.2.3.4", allowed=("::ffff:10.0.0.0/104",)),
]

SCHEMES = [
    ("https", "https", "what it is for"),
    ("http", "http", "the proxy was asked without TLS"),
    ("HTTPS", "https", "schemes know no case: RFC 3986, section 3.1"),
    ("http, https", "https", "the last one is of the proxy next to us, the others anyone's"),
    ("https,http", "http", "as above"),
    (" https ", "https", "white space around"),
    ("", None, "nothing"),
    ("https,", None, "nothing"),
    ("wss", None, "no scheme of WSGI"),
    ("https http", None, "nonsense"),
]


@pytest.mark.parametrize("case", CHAINS, ids=lambda case: case.name)
def test_the_client_of_a_chain(case):
    proxies = Proxies(case.allowed)
    for _ in range(2):  # the second time it is remembered
        environ = {"REMOTE_ADDR": "10.9.9.9", "REMOTE_PORT": "9", "HTTP_X_FORWARDED_FOR": case.chain}
        proxies.interpret(environ)
        expected = ("10.9.9.9", "9") if case.address is None else (case.address, case.port)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == expected
        assert environ["HTTP_X_FORWARDED_FOR"] == case.chain


@pytest.mark.parametrize("own", ["http", "https"])
@pytest.mark.parametrize(("given", "scheme", "reason"), SCHEMES, ids=[repr(given) for given, _, _ in SCHEMES])
def test_the_scheme(own, given, scheme, reason):
    environ = {"wsgi.url_scheme": own, "HTTP_X_FORWARDED_PROTO": given} | ({"HTTPS": "on"} if own == "https" else {})
    Proxies(DEFAULT).interpret(environ)
    assert environ["wsgi.url_scheme"] == (scheme or own), reason
    assert ("HTTPS" in environ) == (environ["wsgi.url_scheme"] == "https"), reason


@pytest.mark.parametrize(
    ("allowed", "address", "believed", "named"),
    [
        (DEFAULT, "127.0.0.1", True, True),
        (DEFAULT, "127.0.0.2", False, False),
        (DEFAULT, "::1", True, True),
        (DEFAULT, "::ffff:127.0.0.1", True, True),  # at a listener of IPv6 that takes IPv4 as well
        (DEFAULT, "", True, True),
        (NETWORKS, "", False, False),
        (NETWORKS, "10.255.255.255", True, True),
        (NETWORKS, "11.0.0.0", False, False),
        (NETWORKS, "2001:db8:1:ffff::", True, True),
        (NETWORKS, "2001:db8:2::", False, False),
        (("fe80::/10",), "fe80::1%eth0", True, True),  # as the kernel gives it
        (("*",), "1.2.3.4", True, False),
        (("*",), "", True, False),
        (("*", "10.0.0.0/8"), "10.0.0.1", True, True),
        ((), "127.0.0.1", False, False),
    ],
)
def test_who_is_believed(allowed, address, believed, named):
    proxies = Proxies(allowed)
    assert (address in proxies) == believed
    assert proxies.names(address) == named


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.1/8", "10.0.0", "", "all"])
def test_who_cannot_be_believed(entry):
    with pytest.raises(ForkdError, match="forwarded_allow_ips: expected an address, a network, unix or \\*, got "):
        Proxies((entry,))


def environ(client: Client, *headers: str) -> dict[str, str]:
    return json.loads(client.get("/environ", *headers).body)


FORWARDED = (
    "X-Forwarded-For: 6.6.6.6, 1.2.3.4:77",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: forged",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /forged",
    "Forwarded: for=6.6.6.6",
)
FIELDS = {
    "HTTP_X_FORWARDED_FOR": "6.6.6.6, 1.2.3.4:77",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "forged",
    "HTTP_X_FORWARDED_PORT": "1",
    "HTTP_X_FORWARDED_PREFIX": "/forged",
    "HTTP_FORWARDED": "for=6.6.6.6",
}


def test_a_believed_peer_says_who_the_client_is(served):
    port = served.address.rpartition(":")[2]
    with served.client() as client:
        found = environ(client, *FORWARDED)
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("1.2.3.4", "77")
        assert (found["wsgi.url_scheme"], found["HTTPS"]) == ("https", "on")
        assert (found["SERVER_NAME"], found["SERVER_PORT"], found["SCRIPT_NAME"]) == ("127.0.0.1", port, "")
        assert found["HTTP_HOST"] == "test"
        assert {name: found[name] for name in FIELDS} == FIELDS
        # Of each request on a connection that many clients may share.
        assert environ(client, "X-Forwarded-For: 1.2.3.5")["REMOTE_ADDR"] == "1.2.3.5"
        plain = environ(client)
        assert (plain["REMOTE_ADDR"], plain["wsgi.url_scheme"]) == ("127.0.0.1", "http")
        assert "HTTPS" not in plain


def test_another_peer_is_not_believed(served):
    with served.client(source="127.0.0.2") as client:
        peer = client.sock.getsockname()
        for _ in range(2):
            found = environ(client, *FORWARDED)
            assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (peer[0], str(peer[1]))
            assert found["wsgi.url_scheme"] == "http"
            assert "HTTPS" not in found
            assert {name: found[name] for name in FIELDS} == FIELDS


def test_a_name_with_an_underscore_says_nothing(client):
    found = environ(client, "X_Forwarded_For: 6.6.6.6", "X-Forwarded_Proto: https")
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_a_repeated_header_is_one_chain(client):
    assert environ(client, "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.2.3.4")["REMOTE_ADDR"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("allowed", "address"), [(DEFAULT, "1.2.3.4"), (("*",), "6.6.6.6"), (("127.0.0.1",), ""), ((), "")]
)
def test_who_comes_by_a_unix_socket(serve, short_tmp, allowed, address):
    with serve(bind=f"unix:{short_tmp}/s", options={"forwarded_allow_ips": allowed}).client() as client:
        assert environ(client, *FORWARDED)["REMOTE_ADDR"] == address
