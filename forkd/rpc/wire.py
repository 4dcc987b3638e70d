"""Messages as bytes: msgpack maps in frames of a bounded length; knows no socket and no method.

A frame is the length of its body as 4 bytes, most significant first, and the body: a map with a `type`.
Worker to client: `hello {protocol, worker, idempotent, crowded}` first; `answer {id, result | error}`; `bye` (it
drains: begin nothing new); `end` (every call it began is answered, all others were never begun); `refused {message}` in
place of hello. Client to worker: `call {id, method, args, context?, seconds?, version?, cast?}`.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from forkd.errors import ForkdError, ProtocolError
from forkd.rpc import values

PROTOCOL = 2
MESSAGE_LIMIT = 8 << 20
"""Longest body of a frame, in bytes; the same for both sides and both directions."""

HEADER = 4
"""Bytes of a frame before its body."""

Message = dict[str, Any]

_TEXT = {str}
_size_at = struct.Struct(">I").unpack_from


class Unsendable(ForkdError):
    """A value that has no form in msgpack, or is too long."""


class Request(NamedTuple):
    """A call as it arrived; `seconds` is what its deadline leaves, None for a caller who waits for ever.

    Of a `cast` nobody waits for what it comes to, only for word that it was accepted.
    """

    id: int
    method: str
    args: dict[str, Any]
    seconds: float | None
    context: dict[str, Any]
    version: str | None
    cast: bool


def frame(message: Message) -> bytes:
    """Return the message's frame; raise `Unsendable`, which says what stands in the way."""
    body = pack(message)
    return len(body).to_bytes(HEADER, "big") + body


def pack(message: Message) -> memoryview:
    """Return the message's body alone; raise `Unsendable`, which says what stands in the way."""
    try:
        body = values.pack(message)
    except Exception as error:  # noqa: BLE001 -- a value may be of a class whose own code runs here
        raise Unsendable(str(error)) from None
    if len(body) > MESSAGE_LIMIT:
        raise Unsendable(f"it takes {len(body)} bytes, and {MESSAGE_LIMIT} is the most")
    return body


class Frames:
    """Takes the bytes of a stream as they come and gives its messages; holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now; raise `ProtocolError` for what is none, and be of no use then."""
        rest = self._rest
        rest += data
        messages = []
        start, end = 0, len(rest)
        while end - start >= HEADER:
            (size,) = _size_at(rest, start)
            if size > MESSAGE_LIMIT:
                raise ProtocolError(f"a frame announces {size} bytes, and {MESSAGE_LIMIT} is the most")
            body = start + HEADER
            if end < body + size:
                break
            start = body + size
            messages.append(unpack(bytes(rest[body:start])))
        del rest[:start]
        return messages


def unpack(body: bytes | memoryview) -> Message:
    """Return the message of a body; raise `ProtocolError` for what is none."""
    try:
        message = values.unpack(body)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"a frame is not msgpack: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("a message is no map with a type")
    return message


def request(message: Message) -> Request:
    """Return what a client sent as a call; raise `ProtocolError` for anything else."""
    if message["type"] != "call":
        raise ProtocolError(f"a client sends calls, not {message['type']!r:.40}")
    get = message.get
    number, method, args, context = get("id", 0), get("method", ""), get("args", {}), get("context", {})
    seconds, version, cast = get("seconds"), get("version"), get("cast", False)
    sound = (
        type(number) is int
        and type(method) is str
        and type(args) is dict
        and set(map(type, args)) <= _TEXT
        and (seconds is None or type(seconds) in (int, float))
        and type(context) is dict
        and set(map(type, context)) <= _TEXT
        and (version is None or type(version) is str)
        and type(cast) is bool
    )
    if not sound:
        raise ProtocolError("a call's fields have the wrong types")
    return Request(number, method, args, seconds, context, version, cast)
