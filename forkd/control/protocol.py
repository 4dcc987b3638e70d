"""What travels over the control socket: one JSON object a line; nothing here does I/O.

A request is `{"do": "status"}`, or another verb with what VERBS lets go with it. `status` is answered by
`{"status": {…}}`, and `checks` by `{"checks": [{"id": 7, "socket": "…", …}]}`: which workers are to be asked how they
are, and how. What comes of that is told by `health`, which is not answered. The others are orders: they are answered by
`{"accepted": TICKET}`, then by one `{"seq": 17, "at": "…", "news": {…}, "level": "info", "origin": "shop/0", "text":
"…"}` for each thing that happens to their services, and last by `{"ended": TICKET, "ok": true, "text": "…"}`. `events`
is one that ends at once, with the news so far. The stop of everything is over when the launcher has closed the
connection; with `"follow": true` the news go on after the end, until the client closes it. Where a client did not read
fast enough, `{"lost": 12}` stands for the news that it does not get. What is refused is answered by `{"error": "…"}`.
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
VERBS: dict[str, tuple[str, ...]] = {  # and what may go with each
    "status": ("service",),
    "reload": ("service",),
    "restart": ("service",),
    "stop": ("service", "quick"),
    "scale": ("service", "workers", "relative"),
    "signal": ("service", "slot", "signal", "follow"),
    "events": ("service", "follow"),
    "checks": (),
    "health": ("id", "failures", "unhealthy", "text"),
}
MOST_WORKERS = 10_000  # of a service, as its key `workers` has it
_NEEDED = {"scale": ("service", "workers"), "signal": ("signal",), "health": ("id", "failures")}
_NUMBERS = {
    "slot": (0, MOST_WORKERS - 1),
    "workers": (-MOST_WORKERS, MOST_WORKERS),
    "signal": (1, 64),
    "id": (1, 1 << 53),
    "failures": (0, 1_000_000),
}
_TEXTS = {"service": "a name", "text": "a text"}


class Request(NamedTuple):
    """What a client asks for; `service` None: for all of them, `slot` None: for all of its workers."""

    verb: str
    service: str | None = None
    quick: bool = False
    workers: int | None = None
    relative: bool = False
    slot: int | None = None
    signal: int | None = None
    follow: bool = False
    id: int | None = None
    failures: int | None = None
    unhealthy: bool = False
    text: str | None = None


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
    given = {key: value for key, value in request._asdict().items() if value is not None and value is not False}
    return encode({"do": given.pop("verb"), **given})


def parse_request(line: bytes) -> Request:
    """Return the request in a line, all of it checked; ProtocolError with a sentence for the client."""
    body = {key: value for key, value in decode(line).items() if value is not None}
    verb = body.pop("do", None)
    if not isinstance(verb, str) or verb not in VERBS:
        raise ProtocolError(f'"do" must be one of {", ".join(VERBS)}, got {verb!r}')
    if strange := body.keys() - set(VERBS[verb]):
        raise ProtocolError(f"{verb} knows nothing of {', '.join(map(repr, sorted(strange)))}")
    for key in _NEEDED.get(verb, ()):
        if key not in body:
            raise ProtocolError(f'"{key}" must go with {verb}')
    for key, value in body.items():
        _check(key, value)
    if body.get("workers", 0) < 0 and not body.get("relative"):
        raise ProtocolError('"workers" must not be negative without "relative"')
    return Request(verb, **body)


def _check(key: str, value: object) -> None:
    if key in _TEXTS:
        fits, expected = isinstance(value, str), _TEXTS[key]
    elif key in _NUMBERS:
        lowest, highest = _NUMBERS[key]
        # True and False are integers to Python.
        fits = isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
        expected = f"a number from {lowest} to {highest}"
    else:
        fits, expected = isinstance(value, bool), "true or false"
    if not fits:
        raise ProtocolError(f'"{key}" must be {expected}, got {value!r}')


def status_line(picture: dict[str, Any]) -> bytes:
    """Return the answer to `status`."""
    return encode({"status": picture})


def checks_line(checks: list[dict[str, Any]]) -> bytes:
    """Return the answer to `checks`."""
    return encode({"checks": checks})


def accepted_line(ticket: int) -> bytes:
    """Return the first answer to a request that takes time."""
    return encode({"accepted": ticket})


def news_line(number: int, at: str, news: News, said: Line) -> bytes:
    """Return what happened as fields and in words: how manyth since the launcher's start, and at what time of day."""
    fields = {key: value for key, value in news._asdict().items() if value is not None}
    return encode({"seq": number, "at": at, "news": fields, **said._asdict()})


def lost_line(count: int) -> bytes:
    """Return what stands for so many news that a slow client does not get."""
    return encode({"lost": count})


def ended_line(ticket: int, ok: bool, text: str) -> bytes:
    """Return the last answer to a request that takes time."""
    return encode({"ended": ticket, "ok": ok, "text": text})


def error_line(text: str) -> bytes:
    """Return a refusal."""
    return encode({"error": text})
