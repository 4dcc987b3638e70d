"""From the bytes of a request's head to an environ: llhttp parses, and what it lets by is refused here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httptools

from forkd.wsgi import target
from forkd.wsgi.names import environ_key
from forkd.wsgi.refusal import Refused

if TYPE_CHECKING:
    from forkd.wsgi.options import Options

MOST_HEADERS = 100

# Strict where llhttp is not: single spaces, no fragment, no bytes outside ASCII, nothing but the two versions we speak.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-\"$-~]+) HTTP/1\.([01])")
_METHOD_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_FOREIGN_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/(?!1\.[01]\Z)[0-9](\.[0-9])?")
_CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\t\r\n"})
_ONLY_ONCE = {"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"}


class Request:
    """One request as far as its head tells: the environ to serve it with, and how its body is framed."""

    __slots__ = ("chunked", "environ", "expects", "http11", "keep_alive", "length", "method", "upgrades")

    def __init__(self, environ: dict[str, Any], method: str, *, http11: bool) -> None:
        self.environ = environ
        self.method = method
        self.http11 = http11
        self.keep_alive = http11
        self.length = 0  # bytes of the body, unless it is chunked
        self.chunked = False
        self.expects = False  # "100 Continue" before it sends the body
        self.upgrades = False  # it asks for another protocol on its connection


class HeadParser:
    """Parses one whole head after another, for one thread: llhttp's parser is kept and reused."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._environ: dict[str, Any] = {}
        self._llhttp: httptools.HttpRequestParser | None = None
        self._reusable = False  # it takes another head behind the one that it was fed

    def parse(self, head: bytes, prepared: dict[str, Any]) -> Request:
        """Return the request that `head` (to its empty line, inclusive) begins, its environ on top of `prepared`.

        Raise `Refused` with the status that RFC 9110 and 9112 give for what is wrong with it.
        """
        line_end = head.find(b"\r\n")
        if line_end > self._options.request_line_limit:
            raise Refused(414, "the request line is too long")
        match = _REQUEST_LINE.fullmatch(head, 0, line_end)
        if match is None:
            raise _bad_line(head[:line_end])
        _check_lines(head)
        method = str(match[1], "ascii")
        raw = str(match[2], "ascii")
        http11 = match[3] == b"1"
        parts = target.parse(method, raw)
        environ = self._environ = prepared.copy()
        self._feed(head)
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = raw
        environ["PATH_INFO"] = parts.path
        environ["QUERY_STRING"] = parts.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if http11 else "HTTP/1.0"
        request = Request(environ, method, http11=http11)
        self._finish(request)
        if parts.host is not None:
            environ["HTTP_HOST"] = parts.host  # an absolute target's host beats the field: RFC 9112, 3.2.2
        return request

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field from llhttp."""
        key = environ_key(name)
        if key is None:
            return
        text = str(value, "latin-1").rstrip(" \t")
        environ = self._environ
        if key not in environ:
            environ[key] = text
        elif key in _ONLY_ONCE:
            raise Refused(400, f"{name.decode('latin-1')} is given more than once")
        else:
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + text

    def on_message_complete(self) -> None:
        """Learn from llhttp that the request has no body; what it believes of the connection is asked of it alone."""
        self._reusable = self._llhttp is not None and self._llhttp.should_keep_alive()

    def _feed(self, head: bytes) -> None:
        parser = self._llhttp = self._llhttp or httptools.HttpRequestParser(self)
        self._reusable = False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._reusable = False
        except httptools.HttpParserInvalidMethodError:
            raise Refused(501, "unknown method") from None
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            raise self._explain(error) from None
        finally:
            # Where a body follows, or by its reckoning the end of the connection, llhttp takes no other request.
            if not self._reusable:
                self._llhttp = None

    def _explain(self, error: httptools.HttpParserError) -> Refused:
        coding = self._environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None and "CONTENT_LENGTH" not in self._environ:
            return _bad_coding(coding)
        return Refused(400, str(error))

    def _finish(self, request: Request) -> None:
        """Draw the conclusions from the fields that frame the message."""
        environ = request.environ
        host = environ.get("HTTP_HOST")
        if host is not None:
            target.check_host(host)
        elif request.http11:
            raise Refused(400, "no Host")
        connection = environ.get("HTTP_CONNECTION")
        if connection is not None:
            _set_connection(request, connection)
        if "HTTP_TRANSFER_ENCODING" in environ:
            _set_chunked(request)
        elif "CONTENT_LENGTH" in environ:
            self._set_length(request)
        expect = environ.get("HTTP_EXPECT")
        if expect is not None and request.http11:
            if expect.lower() != "100-continue":
                raise Refused(417, "unknown expectation")
            request.expects = request.chunked or request.length > 0

    def _set_length(self, request: Request) -> None:
        text = request.environ["CONTENT_LENGTH"]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Refused(400, "malformed Content-Length")
        request.length = int(text)
        if self._options.body_limit and request.length > self._options.body_limit:
            raise Refused(413, "the body is too long")


def check_partial(start: bytearray, options: Options) -> None:
    """Raise `Refused` for the bytes received so far, at least one, when nothing behind makes a good head of them."""
    line_end = start.find(b"\r\n")
    if (line_end if line_end >= 0 else len(start) - 1) > options.request_line_limit:
        raise Refused(414, "the request line is too long")
    if len(start) >= options.header_limit:
        raise Refused(431, "the head is too long")
    if not _METHOD_START.match(start):
        raise Refused(400, "no method")
    if line_end >= 0 and not _REQUEST_LINE.fullmatch(start, 0, line_end):
        raise _bad_line(bytes(start[:line_end]))
    if start.count(b"\n") != start.count(b"\r\n"):
        raise Refused(400, "a line ends in a bare LF")


def _check_lines(head: bytes) -> None:
    lines = head.count(b"\r\n")
    if lines - 2 > MOST_HEADERS:
        raise Refused(431, "too many headers")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise Refused(400, "a line ends in a bare CR or LF")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise Refused(400, "a folded line")
    if len(head.translate(None, _CONTROLS)) != len(head):
        raise Refused(400, "a control character")


def _bad_line(line: bytes) -> Refused:
    if _FOREIGN_VERSION.fullmatch(line):
        return Refused(505, "HTTP/1.1 is spoken here")
    return Refused(400, "malformed request line")


def _bad_coding(coding: str) -> Refused:
    codings = [item.strip(" \t").lower() for item in coding.split(",")]
    # Where `chunked` is not the last coding, or comes twice, nobody can tell where the body ends.
    framed = "chunked" not in codings[:-1] and all(codings)
    # llhttp stops at a repeated field before it is joined to the first, so a lone `chunked` is none either.
    return Refused(501 if framed and codings != ["chunked"] else 400, "unsupported or malformed Transfer-Encoding")


def _set_chunked(request: Request) -> None:
    coding = request.environ["HTTP_TRANSFER_ENCODING"]
    if not request.http11 or "CONTENT_LENGTH" in request.environ:
        raise Refused(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if coding.lower() != "chunked":
        raise _bad_coding(coding)
    request.chunked = True


def _set_connection(request: Request, connection: str) -> None:
    options = {item.strip(" \t").lower() for item in connection.split(",")}
    request.keep_alive = "close" not in options and (request.http11 or "keep-alive" in options)
    request.upgrades = "upgrade" in options and request.http11 and "HTTP_UPGRADE" in request.environ
