"""The frames of AMQP 0-9-1 that calls are made of, written and read by hand; it knows no socket and no call.

A message is published as three frames or more: the method, a header with the body's length and the properties, the
body in pieces of a bounded size. It is delivered, or returned, in the same way. How a connection begins, and what is
declared on it, is py-amqp's: that is many kinds of frames, but few of each. (AMQP 0-9-1, sections 2.3.5 and 4.2.)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from forkd.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_END = 0xCE
_FRAME = struct.Struct(">BHI")  # type, channel, length of the payload
_OVERHEAD = _FRAME.size + 1
_CONTENT = struct.Struct(">HHQH")  # class, weight, length of the body, which properties there are
_TAG = struct.Struct(">Q?")  # of a delivery, and whether it was delivered before; of an ack, and whether of all before
_ACK = struct.Struct(">BHIIQ?B")

BASIC = 60
CONNECTION_CLOSE, CONNECTION_CLOSE_OK = (10 << 16) + 50, (10 << 16) + 51
BLOCKED, UNBLOCKED = (10 << 16) + 60, (10 << 16) + 61
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20 << 16) + 10, (20 << 16) + 11
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20 << 16) + 40, (20 << 16) + 41
DECLARE, DECLARE_OK = (50 << 16) + 10, (50 << 16) + 11
QOS, QOS_OK = (BASIC << 16) + 10, (BASIC << 16) + 11
CONSUME, CONSUME_OK = (BASIC << 16) + 20, (BASIC << 16) + 21
CANCEL, CANCEL_OK = (BASIC << 16) + 30, (BASIC << 16) + 31
PUBLISH, RETURN, DELIVER = (BASIC << 16) + 40, (BASIC << 16) + 50, (BASIC << 16) + 60
ACK, NACK = (BASIC << 16) + 80, (BASIC << 16) + 120

_MANDATORY = 1
_PASSIVE = 1
_REPLY_TO, _EXPIRATION, _APP_ID = 1 << 9, 1 << 8, 1 << 3
_SHORT, _TABLE, _OCTET, _TIME = range(4)
# The properties in the order of their bits, from the highest one, and of their values.
_PROPERTIES = (*(_SHORT, _SHORT, _TABLE, _OCTET, _OCTET), *(_SHORT,) * 4, _TIME, *(_SHORT,) * 4)
_REPLY_TO_AT, _APP_ID_AT = 6, 12


BROKEN = (ProtocolError, struct.error, IndexError)
"""What a `Reader` raises for bytes that are no frames."""


class Message(NamedTuple):
    """A message that came, delivered or returned; of the fields below `body` a returned one has none."""

    channel: int
    method: int
    body: bytes
    reply_to: bytes
    app_id: bytes
    consumer: bytes
    tag: int
    again: bool  # it was delivered before, to whomever
    exchange: bytes


class Method(NamedTuple):
    """Any other frame that came but a heartbeat; `arguments` as they are on the wire."""

    channel: int
    method: int
    arguments: bytes


def short(text: bytes) -> bytes:
    """Return a short string, of at most 255 bytes, as it is on the wire."""
    return bytes((len(text),)) + text


def method(channel: int, number: int, arguments: bytes = b"") -> bytes:
    """Return the frame of any method."""
    return _frame(_METHOD, channel, number.to_bytes(4, "big") + arguments)


def publish(channel: int, key: bytes, *, exchange: bytes = b"", mandatory: bool = False) -> bytes:
    """Return the frame that begins a message to the queues that `exchange` has for `key`."""
    bits = bytes((_MANDATORY if mandatory else 0,))
    return method(channel, PUBLISH, b"\0\0" + short(exchange) + short(key) + bits)


class Properties(NamedTuple):
    """What a message may say beside its body; each is a short string."""

    reply_to: bytes = b""
    expiration: bytes = b""  # milliseconds, as text
    app_id: bytes = b""


def content(channel: int, body: bytes, properties: Properties, largest: int) -> bytes:
    """Return the frames of a message after its method, none of them of more than `largest` bytes."""
    reply_to, expiration, app_id = properties
    flags = (_REPLY_TO if reply_to else 0) | (_EXPIRATION if expiration else 0) | (_APP_ID if app_id else 0)
    given = b"".join([short(value) for value in properties if value])
    size = len(body)
    head = _frame(_HEADER, channel, _CONTENT.pack(BASIC, 0, size, flags) + given)
    most = largest - _OVERHEAD
    if 0 < size <= most:
        return head + _frame(_BODY, channel, body)
    return head + b"".join([_frame(_BODY, channel, body[at : at + most]) for at in range(0, size, most)])


def ack(channel: int, tag: int) -> bytes:
    """Return the frame that says that a delivery is done with."""
    return _ACK.pack(_METHOD, channel, 13, ACK, tag, False, _END)


def passive_declare(channel: int, queue: bytes) -> bytes:
    """Return the frame that asks how many messages and consumers a queue has; the channel closes if there is none."""
    return method(channel, DECLARE, b"\0\0" + short(queue) + bytes((_PASSIVE,)) + b"\0\0\0\0")


HEARTBEAT = _FRAME.pack(_HEARTBEAT, 0, 0) + bytes((_END,))
OPEN_CHANNEL = short(b"")
CLOSE = (200).to_bytes(2, "big") + short(b"") + bytes(4)  # the arguments of a close without a cause
NO_QOS = bytes(7)  # the arguments of a qos that limits nothing


def consume(channel: int, queue: bytes, consumer: bytes) -> bytes:
    """Return the frame that asks for a queue's messages, to be acknowledged; it is answered."""
    return method(channel, CONSUME, b"\0\0" + short(queue) + short(consumer) + bytes(5))


def cancel(channel: int, consumer: bytes) -> bytes:
    """Return the frame that ends a consumer; it is answered."""
    return method(channel, CANCEL, short(consumer) + b"\0")


def consumer_count(arguments: bytes) -> int:
    """Return how many consumers a queue has, from the arguments of a declare-ok."""
    return int.from_bytes(arguments[-4:], "big")


def tag(arguments: bytes) -> tuple[int, bool]:
    """Return the tag of an ack or nack, and whether it stands for all tags before it, too."""
    number, bits = _TAG.unpack_from(arguments)
    return number, bits


def text(arguments: bytes) -> str:
    """Return the short string that arguments begin with."""
    return _short_at(arguments, 0)[0].decode(errors="replace")


def reason(arguments: bytes) -> str:
    """Return code and text of a close."""
    return f"{int.from_bytes(arguments[:2], 'big')} {arguments[3 : 3 + arguments[2]].decode(errors='replace')}"


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"%b%b\xce" % (_FRAME.pack(kind, channel, len(payload)), payload)


class Reader:
    """Takes the bytes of a connection as they come; holds one unfinished frame, and a message for each channel."""

    def __init__(self, largest: int) -> None:
        """`largest` is the most bytes of a frame that were agreed on."""
        self._largest = largest
        self._rest = b""
        self._unfinished: dict[int, _Unfinished] = {}  # by channel

    def feed(self, data: bytes) -> Iterator[Message | Method]:
        """Yield what is complete now; raise one of `BROKEN` for what is no frame, and be of no use then."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        try:
            while end - at >= _OVERHEAD:
                kind, channel, size = _FRAME.unpack_from(data, at)
                start, at_end = at + _FRAME.size, at + _FRAME.size + size
                if size > self._largest:
                    raise ProtocolError("the broker sends what is no frame")
                if at_end >= end:
                    break
                if data[at_end] != _END:
                    raise ProtocolError("the broker sends what is no frame")
                at = at_end + 1
                found = self._take(kind, channel, data[start:at_end])
                if found is not None:
                    yield found
        finally:
            self._rest = data[at:]

    def _take(self, kind: int, channel: int, payload: bytes) -> Message | Method | None:
        """Return what a frame completes; None for a heartbeat, and for a part of a message."""
        if kind == _METHOD:
            number = int.from_bytes(payload[:4], "big")
            if number not in (DELIVER, RETURN):
                return Method(channel, number, payload[4:])
            self._unfinished[channel] = _Unfinished(number, payload)
        elif kind in (_HEADER, _BODY):
            unfinished = self._unfinished.get(channel)
            if unfinished is None:
                raise ProtocolError("the broker sends a message without its beginning")
            if kind == _HEADER:
                unfinished.take_header(payload)
            else:
                unfinished.pieces.append(payload)
                unfinished.missing -= len(payload)
            if unfinished.missing <= 0:
                del self._unfinished[channel]
                return unfinished.message(channel)
        return None


class _Unfinished:
    """A message of which `missing` bytes of the body are still to come."""

    __slots__ = ("app_id", "method", "missing", "payload", "pieces", "reply_to")

    def __init__(self, number: int, payload: bytes) -> None:
        self.method = number
        self.payload = payload
        self.pieces: list[bytes] = []
        self.missing = 0
        self.reply_to = self.app_id = b""

    def take_header(self, payload: bytes) -> None:
        _, _, self.missing, flags = _CONTENT.unpack_from(payload)
        at = _CONTENT.size
        for index, kind in enumerate(_PROPERTIES):
            if not flags & 0x8000 >> index:
                continue
            size = _size(kind, payload, at)
            if index == _REPLY_TO_AT:
                self.reply_to = payload[at + 1 : at + size]
            elif index == _APP_ID_AT:
                self.app_id = payload[at + 1 : at + size]
            at += size

    def message(self, channel: int) -> Message:
        body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        if self.method == RETURN:
            return Message(channel, self.method, body, self.reply_to, self.app_id, b"", 0, False, b"")
        consumer, at = _short_at(self.payload, 4)
        number, again = _TAG.unpack_from(self.payload, at)
        exchange, _ = _short_at(self.payload, at + _TAG.size)
        return Message(channel, self.method, body, self.reply_to, self.app_id, consumer, number, again, exchange)


def _short_at(payload: bytes, at: int) -> tuple[bytes, int]:
    """Return a short string and where it ends."""
    end = at + 1 + payload[at]
    return payload[at + 1 : end], end


def _size(kind: int, payload: bytes, at: int) -> int:
    """Return how many bytes a property takes, its length's own among them."""
    if kind == _SHORT:
        return 1 + payload[at]
    if kind == _TABLE:
        return 4 + int.from_bytes(payload[at : at + 4], "big")
    return 1 if kind == _OCTET else 8
