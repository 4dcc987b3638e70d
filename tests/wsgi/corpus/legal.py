"""Odd heads that are legal."""

from __future__ import annotations

from tests.wsgi.corpus.case import Legal

HOST = b"Host: a\r\n"


def get(*fields: bytes, target: str = "/", method: str = "GET", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    line = f"{method} {target} HTTP/".encode() + version + b"\r\n"
    return line + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


TARGETS = [
    Legal(target, get(target=target), reason, environ=environ)
    for target, reason, environ in [
        ("/", "the shortest path", {"PATH_INFO": "/", "QUERY_STRING": ""}),
        ("//a/b", "a path may begin with two slashes: no host", {"PATH_INFO": "//a/b", "HTTP_HOST": "a"}),
        ("/a//b/../c/./d", "nothing is made shorter", {"PATH_INFO": "/a//b/../c/./d"}),
        ("/?", "an empty query", {"PATH_INFO": "/", "QUERY_STRING": ""}),
        ("/?a?b/c", "a query may have a question mark", {"PATH_INFO": "/", "QUERY_STRING": "a?b/c"}),
        ("/http://b/", "a path like a URI", {"PATH_INFO": "/http://b/", "HTTP_HOST": "a"}),
        ("/%2F%00%0d%0A%ff", "whatever is escaped", {"PATH_INFO": "//\x00\r\n\xff"}),
        ("/%", "no escape", {"PATH_INFO": "/%"}),
        ("/%zz%2", "no escapes", {"PATH_INFO": "/%zz%2"}),
        ("/a;b=c,d:e@f!$&'()*+~_.-", "all that a path may have", {"PATH_INFO": "/a;b=c,d:e@f!$&'()*+~_.-"}),
        ('/\\^`{|}<>"[]', "no URI, but clients send it, and it has an end", {"PATH_INFO": '/\\^`{|}<>"[]'}),
        ("/HTTP/1.1", "a path like a version", {"PATH_INFO": "/HTTP/1.1"}),
        ("http://b/c?d", "its host counts", {"HTTP_HOST": "b", "PATH_INFO": "/c", "QUERY_STRING": "d"}),
        ("HTTP://b", "schemes have no case; no path is the root", {"HTTP_HOST": "b", "PATH_INFO": "/"}),
        ("https://b:443?d", "a gateway in front may have spoken TLS", {"HTTP_HOST": "b:443", "PATH_INFO": "/"}),
        ("http://b//c", "two slashes there as well", {"HTTP_HOST": "b", "PATH_INFO": "//c"}),
        ("http://b/u@c", "an at sign in the path", {"HTTP_HOST": "b", "PATH_INFO": "/u@c"}),
        ("http://[::1]:80/", "an address", {"HTTP_HOST": "[::1]:80"}),
    ]
]

OPTIONS = [
    Legal(f"OPTIONS of {target}", get(target=target, method="OPTIONS"), reason, environ={"PATH_INFO": path})
    for target, path, reason in [
        ("*", "", "the server itself"),
        ("http://b", "", "as a proxy is told: RFC 9112, 3.2.4"),
        ("http://b/", "/", "a path, if a short one"),
        ("http://b?", "/", "not without a query"),
    ]
]

HOSTS = [
    Legal(f"host {host!r}", get(host=b"Host: %b\r\n" % host.encode()), reason, environ={"HTTP_HOST": host})
    for host, reason in [
        ("", "a URI without an authority has none"),
        ("a.", "the root of all names"),
        ("a_b", "names of machines in a local network"),
        ("A.b", "names have no case, but it is not ours to change"),
        ("xn--bcher-kva.example", "a name in its ASCII form"),
        ("1.2.3.4:65535", "the highest port"),
        ("a:", "an empty port"),
        ("a:0", "nobody listens there, but a port"),
        ("a:00080", "zeros before"),
        ("[::ffff:1.2.3.4]", "an address in an address"),
        ("a%20b", "an escape"),
        ("!$&'()*+;=~", "all else that a name may have"),
    ]
]

LINES = [
    Legal("empty lines before", b"\r\n" * 20 + get(), "RFC 9112, 2.2"),
    Legal("HTTP/1.0", get(version=b"1.0"), "it ends the connection", closes=True),
    Legal("HTTP/1.0 without a host", get(version=b"1.0", host=b""), "none is needed", closes=True),
    Legal("HTTP/1.0 kept", get(b"Connection: keep-alive", version=b"1.0"), "if it asks for that"),
    Legal("HTTP/1.0 not kept", get(b"Connection: keep-alive, close", version=b"1.0"), "close wins", closes=True),
    Legal("expectation in HTTP/1.0", get(b"Expect: tea", version=b"1.0"), "RFC 9110, 10.1.1: ignored", closes=True),
    Legal("long method", get(method="UNSUBSCRIBE"), "of UPnP, and registered"),
    Legal("method with a dash", get(method="M-SEARCH"), "a token"),
]

FIELD_ROWS: list[tuple[str, list[bytes], str, dict[str, str | None]]] = [
    ("empty", [b"X:", b"Y: b"], "nothing of the next line", {"HTTP_X": "", "HTTP_Y": "b"}),
    ("blank", [b"X: \t ", b"Y: b"], "as above", {"HTTP_X": "", "HTTP_Y": "b"}),
    ("empty at the end", [b"X:", b"Y: "], "as above", {"HTTP_X": "", "HTTP_Y": ""}),
    ("without a space", [b"X:a"], "none is needed", {"HTTP_X": "a"}),
    ("in white space", [b"X:\t \ta b\t c \t"], "no part of it", {"HTTP_X": "a b\t c"}),
    ("of obs-text", [b"X: \xa0\xff\x80\x85"], "Latin-1 has other white space", {"HTTP_X": "\xa0\xff\x80\x85"}),
    ("like a line", [b"X: GET /fail HTTP/1.1"], "any text", {"HTTP_X": "GET /fail HTTP/1.1"}),
    ("of colons", [b"X:: :a"], "the first ends the name", {"HTTP_X": ": :a"}),
    ("of all signs", [b"!#$%&'*+.^`|~0: a"], "RFC 9110, 5.6.2", {"HTTP_!#$%&'*+.^`|~0": "a"}),
    ("of a digit", [b"0: a"], "a token", {"HTTP_0": "a"}),
    ("without case", [b"x-ReQuEsTeD-wItH: a"], "names have none", {"HTTP_X_REQUESTED_WITH": "a"}),
    ("in two lines", [b"X: a", b"Y: c", b"x: b"], "RFC 9110, 5.3", {"HTTP_X": "a,b"}),
    ("of many", [b"X%d: a" % n for n in range(99)], "a hundred with Host", {"HTTP_X98": "a"}),
    ("like Content-Length", [b"Content_Length: 9"], "dropped", {"CONTENT_LENGTH": None}),
    ("like Transfer-Encoding", [b"Transfer_Encoding: chunked"], "dropped", {"HTTP_TRANSFER_ENCODING": None}),
    ("Content-Encoding", [b"Content-Encoding: chunked"], "no framing", {}),
    ("TE", [b"TE: chunked, trailers"], "what is wanted of the answer", {}),
    ("with an escape", [b"Transfer-%45ncoding: chunked"], "names have none", {}),
    ("Trailer", [b"Trailer: Content-Length"], "no framing", {}),
    ("Upgrade", [b"Connection: upgrade", b"Upgrade: h2c"], "an offer that may be declined", {}),
    ("Proxy-Connection", [b"Proxy-Connection: close"], "never defined, so it ends nothing", {}),
    ("of two words", [b"Connection: keep close"], "no known option", {}),
    ("Expect", [b"Expect: 100-continue"], "nothing to wait for", {}),
]
FIELDS = [
    *[Legal(f"field {name}", get(*lines), reason, environ=environ) for name, lines, reason, environ in FIELD_ROWS],
    Legal("host last", get(b"X: a", b"Host: b", host=b""), "fields have no order", environ={"HTTP_HOST": "b"}),
]

ENDS = [
    Legal(f"end: {value}", get(*(b"Connection: " + each for each in value.encode().split(b"|"))), reason, closes=True)
    for value, reason in [
        ("close", "RFC 9112, 9.6"),
        ("Keep-Alive, Close", "close wins; no case"),
        ("keep-alive|close", "one list in two lines"),
        (",, close ,", "RFC 9110, 5.6.1: empty elements"),
    ]
]

HEADS = [*TARGETS, *OPTIONS, *HOSTS, *LINES, *FIELDS, *ENDS]
