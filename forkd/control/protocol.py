"""What travels over the control socket: one JSON object a line; nothing here does I/O.

A request is `{"do": "status"}`, or `reload`, `restart`, `stop` with an optional `"service"` and, for stop, `"quick"`.
`status` is answered by `{"status": {…}}`. The others are answered by `{"accepted": TICKET}`, then by one
`{"news": {…}, "level": "info", "origin": "shop/0", "text": "…"}` for each thing that happens to their services, and
last by `{"ended": TICKET, "ok": true, "text": "…"}`; the stop of everything is over when the launcher has closed the
connection. What is refused is answered by `{"error": "…"}`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.errors import ProtocolError

if TYPE_CHECKING:
    from forkd.control.words import Line
    from forkd.core.state import News

SOCKET = "forkd.sock"  # its name in the runtime directory
REQUEST_LIMIT = 64 * 1024  # bytes, with the newline
VERBS = ("status", "reload", "restart", "stop")


class Request(NamedTuple):
    """What a client asks for; `service` None: for all of them."""

    verb: str
    service: str | None = None
    quick: bool = False


def encode(body: dict[str, Any]) -> bytes:
    """Return `body` as one line."""
    return json.dumps(body, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the object that a line holds; ProtocolError for anything else."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = f"not a line of JSON: {error}"
        raise ProtocolError(msg) from None
    if not isinstance(body, dict):
        msg = "expected a JSON object"
        raise ProtocolError(msg)
    return body


def request_line(request: Request) -> bytes:
    """Return a request as the client sends it."""
    body: dict[str, Any] = {"do": request.verb}
    if request.service is not None:
        body["service"] = request.service
    if request.quick:
        body["quick"] = True
    return encode(body)


def parse_request(line: bytes) -> Request:
    """Return the request in a line, all of it checked; ProtocolError with a sentence for the client."""
    body = decode(line)
    verb, service, quick = body.pop("do", None), body.pop("service", None), body.pop("quick", False)
    if verb not in VERBS:
        msg = f'"do" must be one of {", ".join(VERBS)}, got {verb!r}'
    elif not (service is None or isinstance(service, str)):
        msg = f'"service" must be a name, got {service!r}'
    elif not isinstance(quick, bool) or (quick and verb != "stop"):
        msg = '"quick" must be true or false, and goes with stop'
    elif body:
        msg = f"nothing is known of {', '.join(map(repr, body))}"
    else:
        return Request(verb, service, quick)
    raise ProtocolError(msg)


def status_line(picture: dict[str, Any]) -> bytes:
    """Return the answer to `status`."""
    return encode({"status": picture})


def accepted_line(ticket: int) -> bytes:
    """Return the first answer to a request that takes time."""
    return encode({"accepted": ticket})


def news_line(news: News, said: Line) -> bytes:
    """Return what happened, as fields and in words."""
    fields = {key: value for key, value in news._asdict().items() if value is not None}
    return encode({"news": fields, **said._asdict()})


def ended_line(ticket: int, ok: bool, text: str) -> bytes:
    """Return the last answer to a request that takes time."""
    return encode({"ended": ticket, "ok": ok, "text": text})


def error_line(text: str) -> bytes:
    """Return a refusal."""
    return encode({"error": text})
