"""A second opinion: what h11, which shares no code with us, takes the same bytes for."""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

# What h11 refuses, and forkd rightly does not.
_STRICTER = re.compile(
    # White space before an extension is bad, but RFC 9112, 7.1.1, has it read past.
    r"illegal chunk header: bytearray\(b['\"][0-9A-Fa-f]+(\\t| )+;"
    # Trailers come too late to frame anything. h11 checks what they say of it; forkd drops them (RFC 9110, 6.5.1).
    r"|bad Content-Length|conflicting Content-Length headers"
    r"|multiple Transfer-Encoding headers|Only Transfer-Encoding: chunked is supported"
)


class Opinion(NamedTuple):
    """One request; `body` is None where it is cut off or malformed, `rest` what stands behind it."""

    method: bytes
    target: bytes
    body: bytes | None
    rest: bytes


def opinion(data: bytes) -> Opinion | str | None:
    """Return what the first request in `data` is; why it is none; None where the two are known to differ."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    # It takes an empty line for a request without a line: RFC 9112, 2.2, says to skip it.
    parser.receive_data(re.sub(rb"^(\r\n)+", b"", data))
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            if request is None:
                return str(error)
            return None if _STRICTER.match(str(error)) else Opinion(request.method, request.target, None, b"")
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif request is None:
            return "no request"
        else:
            whole = body if isinstance(event, h11.EndOfMessage) else None
            return Opinion(request.method, request.target, whole, parser.trailing_data[0])
