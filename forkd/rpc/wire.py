"""Messages as bytes: msgpack maps in frames of a bounded length; knows no socket and no method.

A frame is the length of its body as 4 bytes, most significant first, and the body: a map with a `type`.
Worker to client: `hello {protocol, host, service, slot, incarnation}` first; `answer {id, result | error}`; `bye`
(it drains: begin nothing new); `end` (every call it began is answered, all others were never begun); `refused
{message}` in place of hello. Client to worker: `call {id, method, args, seconds, context?, version?}`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from forkd.errors import ForkdError, ProtocolError

PROTOCOL = 1
MESSAGE_LIMIT = 8 << 20
"""Longest body of a frame, in bytes; the same for both sides and both directions."""

_HEADER = 4

Message = dict[str, Any]


class Unsendable(ForkdError):
    """A value that has no form in msgpack, or is too long."""


class Request(NamedTuple):
    """A call as it arrived; `seconds` is what its deadline leaves, None for a caller who waits for ever."""

    id: int
    method: str
    args: dict[str, Any]
    seconds: float | None
    context: dict[str, Any]
    version: str | None


def frame(message: Message) -> bytes:
    """Return the message's frame; raise `Unsendable`, which says what stands in the way."""
    try:
        body = _pack(message)
    except Exception as error:  # noqa: BLE001 -- a value may be of a class whose own code runs here
        raise Unsendable(str(error)) from None
    return len(body).to_bytes(_HEADER, "big") + body


class Frames:
    """Takes the bytes of a stream as they come and gives its messages; holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now; raise `ProtocolError` for what is none, and be of no use then."""
        rest = self._rest
        rest += data
        messages = []
        start = 0
        while len(rest) - start >= _HEADER:
            body = start + _HEADER
            size = int.from_bytes(rest[start:body], "big")
            if size > MESSAGE_LIMIT:
                raise ProtocolError(f"a frame announces {size} bytes, and {MESSAGE_LIMIT} is the most")
            if len(rest) < body + size:
                break
            start = body + size
            messages.append(_unpack(bytes(rest[body:start])))
        del rest[:start]
        return messages


def _pack(message: Message) -> memoryview:
    """Return a body that whoever receives it can read: a frame that cannot be read would end the connection of all.

    What consists of msgpack's own types always can. A tuple may be the key of a dict, but arrives as a list, which may
    not; a subclass of dict may have another length than items. So what has any of those in it is read for a trial.
    """
    try:
        return _body(msgpack.packb([message], strict_types=True))
    except TypeError:
        body = _body(msgpack.packb([message]))
    try:
        _read(body)
    except (ValueError, TypeError) as error:
        raise Unsendable(f"nobody could read it (a tuple, for one, is no key of a dict): {error}") from None
    return body


def _body(packed: bytes) -> memoryview:
    """Return the message out of the list that it was packed in: msgpack packs one level more than it reads."""
    body = memoryview(packed)[1:]
    if len(body) > MESSAGE_LIMIT:
        raise Unsendable(f"it takes {len(body)} bytes, and {MESSAGE_LIMIT} is the most")
    return body


def _read(body: bytes | memoryview) -> Any:
    return msgpack.unpackb(body, strict_map_key=False)  # a result may well be a map with numbers for keys


def _unpack(body: bytes) -> Message:
    try:
        message = _read(body)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"a frame is not msgpack: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("a message is no map with a type")
    return message


def request(message: Message) -> Request:
    """Return what a client sent as a call; raise `ProtocolError` for anything else."""
    if message["type"] != "call":
        raise ProtocolError(f"a client sends calls, not {message['type']!r:.40}")
    found = Request(
        message.get("id", 0),
        message.get("method", ""),
        message.get("args", {}),
        message.get("seconds"),
        message.get("context", {}),
        message.get("version"),
    )
    sound = (
        type(found.id) is int
        and type(found.method) is str
        and type(found.args) is dict
        and all(type(name) is str for name in found.args)
        and (found.seconds is None or type(found.seconds) in (int, float))
        and type(found.context) is dict
        and (found.version is None or type(found.version) is str)
    )
    if not sound:
        raise ProtocolError("a call's fields have the wrong types")
    return found
