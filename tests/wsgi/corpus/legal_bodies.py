"""Odd bodies that are legal."""

from __future__ import annotations

from tests.wsgi.corpus.case import CHUNKED, Legal
from tests.wsgi.corpus.legal import get

SMUGGLED = b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n"
OFFER = (b"Connection: upgrade", b"Upgrade: h2c")


def put(body: bytes, *fields: bytes, method: str = "POST") -> bytes:
    return get(*fields, b"Content-Length: %d" % len(body), method=method) + body


SIZED = [
    *[
        Legal(f"body of {method}", put(SMUGGLED, method=method), "no known meaning, but an end", SMUGGLED)
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"]
    ],
    Legal("body like the end of chunks", put(b"0\r\n\r\n" + SMUGGLED), "there are none", b"0\r\n\r\n" + SMUGGLED),
    Legal("body of any bytes", put(bytes(range(256))), "it has no text", bytes(range(256))),
    Legal("length of zero", put(b""), "no body"),
    Legal("zeros for a length", get(b"Content-Length: 000"), "1*DIGIT"),
    Legal("zeros before a length", get(b"Content-Length: 0000000000010") + b"0123456789", "no octal", b"0123456789"),
    Legal("length in white space", get(b"Content-Length: \t3 \t") + b"abc", "as any value", b"abc"),
    Legal("length in HTTP/1.0", get(b"Content-Length: 3", version=b"1.0") + b"abc", "as ever", b"abc", closes=True),
    Legal("length as an option", put(b"abc", b"Connection: content-length"), "we forward nothing", b"abc"),
    Legal("no length", get(method="POST"), "no body: RFC 9112, 6.3"),
    Legal("expectation and body at once", put(b"abc", b"Expect: 100-CONTINUE"), "nobody has to wait", b"abc"),
    Legal("upgrade with a body", put(b"abc", *OFFER), "an offer that may be declined", b"abc"),
]

CODED = [
    Legal(f"coding {field!r}", get(field) + b"1\r\nx\r\n0\r\n\r\n", reason, b"x")
    for field, reason in [
        (b"tRANSFER-eNCODING:cHUNKED", "codings have no case"),
        (b"Transfer-Encoding: \t chunked", "white space as before any value"),
        (b"Transfer-Encoding: chunked  ", "spaces as behind any value"),
    ]
]

CHUNKS = [
    Legal(name, get(CHUNKED, method="POST") + chunks, reason, body)
    for name, chunks, reason, body in [
        ("no chunks", b"0\r\n\r\n", "an empty body", b""),
        ("zeros for the last chunk", b"000\r\n\r\n", "1*HEXDIG", b""),
        ("digits", b"a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0\r\n\r\n", "of either case", b"0123456789abcdefghijk"),
        ("zeros before a size", b"000000000000003\r\nabc\r\n0\r\n\r\n", "1*HEXDIG", b"abc"),
        ("data like framing", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "data has no meaning", b"\r\n0\r\n\r\n"),
        ("data like a request", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), "as above", SMUGGLED),
        ("extension", b"3;a\r\nabc\r\n0;b\r\n\r\n", "RFC 9112, 7.1.1: ignored", b"abc"),
        ("extension with a value", b"3;a=b\r\nabc\r\n0\r\n\r\n", "as above", b"abc"),
        ("extension with a quoted value", b'3;a="\\"; \t\\\\,\xe9\\\xe9"\r\nabc\r\n0\r\n\r\n', "as above", b"abc"),
        ("extension with an empty value", b'3;a=""\r\nabc\r\n0\r\n\r\n', "as above", b"abc"),
        ("extensions", b'3;a;b=c;d="e";f\r\nabc\r\n0\r\n\r\n', "as above", b"abc"),
        ("white space in an extension", b'3 \t; a = \t"b" ;c\r\nabc\r\n0\r\n\r\n', "bad, but to be read past", b"abc"),
        ("signed", b'3;chunk-signature=%b\r\nabc\r\n0;chunk-signature=""\r\n\r\n' % (b"f" * 64), "as for S3", b"abc"),
        ("chunks of one byte", b"1\r\nx\r\n" * 50 + b"0\r\n\r\n", "as long as there is data", b"x" * 50),
        ("trailer like a request", b"0\r\nX:GET /fail HTTP/1.1\r\nHost: a\r\n\r\n", "CVE-2023-40175", b""),
        ("many trailers", b"0\r\n" + b"X: a\r\n" * 100 + b"\r\n", "a hundred", b""),
    ]
]

TRAILER_ROWS: list[tuple[str, bytes, dict[str, str | None]]] = [
    ("of its own", b"X: a\r\nY:\r\n", {"HTTP_X": None, "HTTP_Y": None}),
    ("of framing", b"Content-Length: 9\r\nTransfer-Encoding: gzip\r\n", {"CONTENT_LENGTH": None}),
    ("of a host", b"Host: b\r\n", {"HTTP_HOST": "a"}),
]
TRAILED = [
    Legal(f"trailer {name}", get(CHUNKED) + b"3\r\nabc\r\n0\r\n" + lines + b"\r\n", "dropped", b"abc", environ)
    for name, lines, environ in TRAILER_ROWS
]

BODIES = [
    *SIZED,
    *CODED,
    *CHUNKS,
    *TRAILED,
    Legal("chunks of HEAD", get(CHUNKED, method="HEAD") + b"3\r\nabc\r\n0\r\n\r\n", "as a sized body", b"abc"),
]
