"""From the bytes of a request's head to an environ, line by line; lines that come again are known by heart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.wsgi import target
from forkd.wsgi.known import keep
from forkd.wsgi.names import environ_key
from forkd.wsgi.refusal import Refused

if TYPE_CHECKING:
    from forkd.wsgi.options import Options

    Field = tuple[str | None, str]

MOST_HEADERS = 100

_SECRET = {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"}  # not kept longer than they have to be

# Stricter than RFC 9112 has to be: single spaces, no fragment, no bytes outside ASCII, and the two versions we speak.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-\"$-~]+) HTTP/1\.([01])")
_METHOD_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_FOREIGN_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/(?!1\.[01]\Z)[0-9](\.[0-9])?")
# No white space before the colon, no control characters: bare line ends and folded lines are none either.
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
# Of the IANA's registry, and some that are in use without being there.
_METHODS = re.compile(
    "ACL|BIND|CHECKOUT|CONNECT|COPY|DELETE|GET|HEAD|LINK|LOCK|M-SEARCH|MERGE|MKACTIVITY|MKCALENDAR|MKCOL|MOVE|NOTIFY|"
    "OPTIONS|PATCH|POST|PROPFIND|PROPPATCH|PURGE|PUT|QUERY|REBIND|REPORT|SEARCH|SOURCE|SUBSCRIBE|TRACE|UNBIND|UNLINK|"
    "UNLOCK|UNSUBSCRIBE"
)
_ONLY_ONCE = {"HTTP_HOST", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"}


class RequestLine(NamedTuple):
    """What a request line says: `environ` for the application, the rest for us; `host` as in `Target`."""

    method: str
    http11: bool
    host: str | None
    environ: dict[str, str]


class Request:
    """One request as far as its head tells: the environ to serve it with, and how its body is framed."""

    __slots__ = ("chunked", "environ", "expects", "http11", "keep_alive", "length", "line", "method", "upgrades")

    def __init__(self, environ: dict[str, Any], line: RequestLine) -> None:
        self.environ = environ
        self.line = line
        self.method = line.method
        self.http11 = self.keep_alive = line.http11
        self.length = 0  # bytes of the body, unless it is chunked
        self.chunked = False
        self.expects = False  # "100 Continue" before it sends the body
        self.upgrades = False  # it asks for another protocol on its connection

    @property
    def name(self) -> str:
        """What a log calls it."""
        return f"{self.method} {self.line.environ['RAW_URI']}"  # its own environ is the application's


class HeadParser:
    """Parses one whole head after another, for one thread.

    Most lines of most heads have come before, and what is known of one needs no second look.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lines: dict[str, RequestLine] = {}
        self._fields: dict[str, Field] = {}

    def parse(self, head: bytes, prepared: dict[str, Any]) -> Request:
        """Return the request that `head` (to its empty line, inclusive) begins, its environ on top of `prepared`.

        Raise `Refused` with the status that RFC 9110 and 9112 give for what is wrong with it.
        """
        lines = str(head, "latin-1").split("\r\n")
        line = self._lines.get(lines[0]) or self._learn_line(lines[0])
        environ = prepared | line.environ
        self._read(lines[1:-2], environ)
        request = Request(environ, line)
        if "HTTP_HOST" not in environ and line.http11:
            raise Refused(400, "no Host")
        if line.host is not None:
            environ["HTTP_HOST"] = line.host  # an absolute target's host beats the field: RFC 9112, 3.2.2
        if "HTTP_CONNECTION" in environ:
            _set_connection(request)
        if "HTTP_TRANSFER_ENCODING" in environ:
            _set_chunked(request)
        elif "CONTENT_LENGTH" in environ:
            _set_length(request, self._options.body_limit)
        if "HTTP_EXPECT" in environ:
            _set_expects(request)
        return request

    def _read(self, fields: list[str], environ: dict[str, Any]) -> None:
        """Write fields into an environ."""
        if len(fields) > MOST_HEADERS:
            raise Refused(431, "too many headers")
        known = self._fields.get
        for line in fields:
            key, text = known(line) or self._learn_field(line)
            if key is None:
                continue
            if key not in environ:
                environ[key] = text
            elif key in _ONLY_ONCE:
                raise Refused(400, f"{key} is given more than once")
            else:
                environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + text

    def _learn_line(self, text: str) -> RequestLine:
        if len(text) > self._options.request_line_limit:
            raise Refused(414, "the request line is too long")
        raw = text.encode("latin-1")
        if _REQUEST_LINE.fullmatch(raw) is None:
            raise _bad_line(raw)
        method, uri, version = text.split(" ")
        if not _METHODS.fullmatch(method):
            raise Refused(501, "unknown method")
        path, query, host = target.parse(method, uri)
        environ = {
            "REQUEST_METHOD": method,
            "RAW_URI": uri,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": version,
        }
        line = RequestLine(method, version == "HTTP/1.1", host, environ)
        keep(self._lines, text, len(text), line)
        return line

    def _learn_field(self, line: str) -> Field:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Refused(400, "no header field")
        name, value = match.groups()
        key = environ_key(name)
        text = value.strip(" \t")
        if key == "HTTP_HOST":
            target.check_host(text)
        elif key == "HTTP_TRANSFER_ENCODING" and "\t" in value.lstrip(" \t").removeprefix(text):
            raise Refused(400, "a tab behind Transfer-Encoding, which some take for a part of it")
        if key is not None and key not in _SECRET:
            keep(self._fields, line, len(line), (key, text))
        return key, text


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


def _bad_line(line: bytes) -> Refused:
    if _FOREIGN_VERSION.fullmatch(line):
        return Refused(505, "HTTP/1.1 is spoken here")
    return Refused(400, "malformed request line")


def _set_connection(request: Request) -> None:
    options = {item.strip(" \t").lower() for item in request.environ["HTTP_CONNECTION"].split(",")}
    request.keep_alive = "close" not in options and (request.http11 or "keep-alive" in options)
    request.upgrades = "upgrade" in options and request.http11 and "HTTP_UPGRADE" in request.environ


def _set_chunked(request: Request) -> None:
    codings = [item.strip(" \t").lower() for item in request.environ["HTTP_TRANSFER_ENCODING"].split(",")]
    # Where `chunked` is not the last coding, or comes twice, nobody can tell where the body ends.
    if "chunked" in codings[:-1] or not all(codings):
        raise Refused(400, "malformed Transfer-Encoding")
    if codings != ["chunked"]:
        raise Refused(501, "unsupported Transfer-Encoding")
    if not request.http11 or "CONTENT_LENGTH" in request.environ:
        raise Refused(400, "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    request.chunked = True


def _set_length(request: Request, limit: int) -> None:
    text = request.environ["CONTENT_LENGTH"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(400, "malformed Content-Length")
    request.length = int(text)
    if limit and request.length > limit:
        raise Refused(413, "the body is too long")


def _set_expects(request: Request) -> None:
    if request.http11:
        if request.environ["HTTP_EXPECT"].lower() != "100-continue":
            raise Refused(417, "unknown expectation")
        request.expects = request.chunked or request.length > 0
