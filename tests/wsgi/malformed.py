"""Requests that must be refused: name, bytes, the status that RFC 9110 and 9112 ask for, and why.

Every one is sent whole, split at every byte, and behind a good request. None may reach the application.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    data: bytes
    status: int
    reason: str


def get(*fields: bytes, line: bytes = b"GET /fail HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return get(*fields, line=b"POST /fail HTTP/1.1") + body


CHUNKED = b"Transfer-Encoding: chunked"

CASES = [
    # The request line (RFC 9112, 3).
    Case("http/0.9", b"GET /fail\r\n\r\n", 400, "a version is required"),
    Case("two spaces", get(line=b"GET  /fail HTTP/1.1"), 400, "fields of the line are split differently by others"),
    Case("tab", get(line=b"GET\t/fail HTTP/1.1"), 400, "only SP separates"),
    Case("space at the end", get(line=b"GET /fail HTTP/1.1 "), 400, "as two spaces"),
    Case("space before", get(line=b" GET /fail HTTP/1.1"), 400, "a method begins with a token character"),
    Case("space in the target", get(line=b"GET /fail x HTTP/1.1"), 400, "a target has no spaces"),
    Case("no target", get(line=b"GET HTTP/1.1"), 400, "a target is required"),
    Case("fragment", get(line=b"GET /fail#x HTTP/1.1"), 400, "a fragment is never sent"),
    Case("bytes outside ASCII", get(line=b"GET /f\xc3\xa4il HTTP/1.1"), 400, "a target is percent-encoded"),
    Case("control in the target", get(line=b"GET /fa\x01il HTTP/1.1"), 400, "as above"),
    Case("NUL in the target", get(line=b"GET /fa\x00il HTTP/1.1"), 400, "strings end at NUL elsewhere"),
    Case("relative target", get(line=b"GET fail HTTP/1.1"), 400, "neither of the four forms"),
    Case("foreign scheme", get(line=b"GET ftp://a/fail HTTP/1.1"), 400, "we serve http"),
    Case("user in the target", get(line=b"GET http://u@a/fail HTTP/1.1"), 400, "RFC 9110, 4.2.4"),
    Case("asterisk with GET", get(line=b"GET * HTTP/1.1"), 400, "for OPTIONS alone"),
    Case("CONNECT", get(line=b"CONNECT a:80 HTTP/1.1"), 501, "no proxy"),
    Case("unknown method", get(line=b"BREW /fail HTTP/1.1"), 501, "RFC 9110, 9.1"),
    Case("lower-case method", get(line=b"get /fail HTTP/1.1"), 501, "methods are case-sensitive"),
    Case("bad method", get(line=b"G(T /fail HTTP/1.1"), 400, "no token"),
    Case("http/2.0", get(line=b"GET /fail HTTP/2.0"), 505, "RFC 9110, 15.6.6"),
    Case("http/2 preface", b"PRI * HTTP/2.0\r\n\r\n", 505, "as above"),
    Case("http/1.2", get(line=b"GET /fail HTTP/1.2"), 505, "never defined"),
    Case("lower-case version", get(line=b"GET /fail http/1.1"), 400, "the version is case-sensitive"),
    Case("long version", get(line=b"GET /fail HTTP/1.10"), 400, "one digit"),
    Case("other protocol", get(line=b"GET /fail RTSP/1.0"), 400, "no HTTP"),
    # Line ends and white space (RFC 9112, 2.2 and 5).
    Case("bare LF", b"GET /fail HTTP/1.1\nHost: a\n\n", 400, "line ends that others do not see"),
    Case("bare LF after the line", b"GET /fail HTTP/1.1\nHost: a\r\n\r\n", 400, "as above"),
    Case("bare LF after a field", b"GET /fail HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "as above"),
    Case("bare LF as the empty line", b"GET /fail HTTP/1.1\r\nHost: a\r\n\n", 400, "as above"),
    Case("bare CR in a value", get(b"X: a\rb"), 400, "as above"),
    Case("bare CR as a line end", get(b"X: a\rContent-Length: 5"), 400, "as above"),
    Case("folded", get(b"X: a", b" b"), 400, "obs-fold"),
    Case("folded with a tab", get(b"X: a", b"\tb"), 400, "obs-fold"),
    Case("folded first", b"GET /fail HTTP/1.1\r\n Host: a\r\n\r\n", 400, "white space before the first field"),
    Case("space before the colon", get(b"Content-Length : 5"), 400, "a smuggled length"),
    Case("tab before the colon", get(b"X\t: 5"), 400, "as above"),
    Case("no colon", get(b"X"), 400, "no field"),
    Case("no name", get(b": a"), 400, "no field"),
    Case("bad name", get(b"X(: a"), 400, "no token"),
    Case("name outside ASCII", get(b"X\xe9: a"), 400, "no token"),
    Case("NUL in a value", get(b"X: a\x00b"), 400, "strings end at NUL elsewhere"),
    Case("control in a value", get(b"X: a\x1fb"), 400, "RFC 9110, 5.5"),
    Case("DEL in a value", get(b"X: a\x7fb"), 400, "RFC 9110, 5.5"),
    Case("vertical tab around a value", get(b"Content-Length:\x0b5"), 400, "some take it for white space"),
    # Host (RFC 9112, 3.2).
    Case("no host", get(host=b""), 400, "required by HTTP/1.1"),
    Case("two hosts", get(b"Host: a"), 400, "even the same one"),
    Case("two hosts, another case", get(b"hOST: b"), 400, "as above"),
    Case("host with a path", get(host=b"Host: a/b\r\n"), 400, "no host"),
    Case("host with a user", get(host=b"Host: u@a\r\n"), 400, "no host"),
    Case("host with a space", get(host=b"Host: a b\r\n"), 400, "no host"),
    Case("host with a bad port", get(host=b"Host: a:b\r\n"), 400, "no port"),
    Case("list of hosts", get(host=b"Host: a,b:80:80\r\n"), 400, "no host"),
    Case("bad host in the target", get(line=b"GET http://a:b/fail HTTP/1.1"), 400, "no host"),
    # Content-Length (RFC 9112, 6.3).
    Case("length twice", post(b"Content-Length: 5", b"Content-Length: 5", body=b"aaaaa"), 400, "repeated"),
    Case("lengths differ", post(b"Content-Length: 5", b"Content-Length: 6", body=b"aaaaa"), 400, "conflicting"),
    Case("list of lengths", post(b"Content-Length: 5, 5", body=b"aaaaa"), 400, "repeated"),
    Case("plus", post(b"Content-Length: +5", body=b"aaaaa"), 400, "1*DIGIT"),
    Case("minus", post(b"Content-Length: -5", body=b"aaaaa"), 400, "1*DIGIT"),
    Case("hexadecimal", post(b"Content-Length: 0x5", body=b"aaaaa"), 400, "1*DIGIT"),
    Case("underscore", post(b"Content-Length: 1_0", body=b"aaaaaaaaaa"), 400, "what int() takes"),
    Case("space inside", post(b"Content-Length: 1 0", body=b"aaaaaaaaaa"), 400, "1*DIGIT"),
    Case("superscript", post(b"Content-Length: \xb2", body=b"aa"), 400, "what isdigit() takes"),
    Case("empty length", post(b"Content-Length:", body=b"aa"), 400, "1*DIGIT"),
    Case("length overflows", post(b"Content-Length: 18446744073709551621", body=b"aa"), 400, "2**64 + 5"),
    Case("quoted length", post(b'Content-Length: "5"', body=b"aaaaa"), 400, "1*DIGIT"),
    # Transfer-Encoding (RFC 9112, 6.1).
    Case("TE and CL", post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"), 400, "TE.CL"),
    Case("CL and TE", post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), 400, "CL.TE"),
    Case("TE twice", post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400, "chunked is applied once"),
    Case("chunked twice", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400, "as above"),
    Case("chunked not last", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400, "no known end"),
    Case("unknown coding", post(b"Transfer-Encoding: gzip"), 501, "RFC 9112, 6.1"),
    Case("coding before chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501, "as above"),
    Case("identity", post(b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), 501, "removed from HTTP"),
    Case("xchunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501, "TE.TE"),
    Case("quoted chunked", post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 501, "TE.TE"),
    Case("empty coding", post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400, "TE.TE"),
    Case("vertical tab", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400, "TE.TE"),
    Case("TE in HTTP/1.0", b"POST /fail HTTP/1.0\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n", 400, "RFC 9112, 6.1"),
    Case("unknown expectation", post(b"Expect: tea", b"Content-Length: 1", body=b"a"), 417, "RFC 9110, 10.1.1"),
    # What is no HTTP at all.
    Case("tls", bytes.fromhex("160301020001000001fc0303"), 400, "a ClientHello"),
    Case("zeros", b"\x00" * 20, 400, "nothing"),
]

# Bodies that an application begins to read: behind the head of a request to /swallow, which answers 200 if it can.
BODIES = [
    Case("no size", b"\r\nabc\r\n0\r\n\r\n", 400, "a size is required"),
    Case("bad size", b"x\r\nabc\r\n0\r\n\r\n", 400, "1*HEXDIG"),
    Case("0x size", b"0x3\r\nabc\r\n0\r\n\r\n", 400, "what int() takes"),
    Case("plus size", b"+3\r\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("minus size", b"-3\r\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("underscore size", b"0_3\r\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("space before the size", b" 3\r\nabc\r\n0\r\n\r\n", 400, "as above"),
    Case("space after the size", b"3 \r\nabc\r\n0\r\n\r\n", 400, "read differently by others"),
    Case("size overflows", b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400, "2**64 + 3"),
    Case("bare LF after the size", b"3\nabc\r\n0\r\n\r\n", 400, "line ends that others do not see"),
    Case("bare LF after the data", b"3\r\nabc\n0\r\n\r\n", 400, "as above"),
    Case("bare LF at the end", b"3\r\nabc\r\n0\r\n\n", 400, "as above"),
    Case("bare CR in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400, "TERM.EXT"),
    Case("bare LF in an extension", b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400, "TERM.EXT"),
    Case("control in an extension", b"3;a\x00b\r\nabc\r\n0\r\n\r\n", 400, "RFC 9112, 7.1.1"),
    Case("long extension", b"3;" + b"a" * 2000 + b"\r\nabc\r\n0\r\n\r\n", 400, "bounded"),
    Case("chunk too long", b"3\r\nabcd\r\n0\r\n\r\n", 400, "its end is elsewhere"),
    Case("chunk too short", b"4\r\nabc\r\n0\r\n\r\n", 400, "its end is elsewhere"),
    Case("no CRLF between chunks", b"3\r\nabc0\r\n\r\n", 400, "its end is elsewhere"),
    Case("bad trailer", b"3\r\nabc\r\n0\r\nX : a\r\n\r\n", 400, "as a field"),
    Case("folded trailer", b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n", 400, "obs-fold"),
    Case("request as trailer", b"3\r\nabc\r\n0\r\nGET /hello HTTP/1.1\r\n\r\n", 400, "TERM.SPILL"),
    Case("many trailers", b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431, "bounded"),
]
