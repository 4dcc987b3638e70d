"""AMQP's frames as they are written and read here, each tried on py-amqp, which has the whole protocol."""

from __future__ import annotations

import contextlib

import amqp
import pytest
from amqp import method_framing, serialization, spec
from hypothesis import given
from hypothesis import strategies as st

from forkd.errors import ProtocolError
from forkd.rpc.transports.amqp import frames
from forkd.rpc.transports.amqp.frames import Message, Method, Properties

SHORTS = st.binary(max_size=255)
TEXTS = st.text(st.characters(codec="ascii"), max_size=40)


class Wire:
    """What py-amqp's reader and writer of frames need of a connection."""

    frame_max = 131072
    bytes_sent = bytes_recv = 0

    def __init__(self):
        self.data = b""
        self.methods: list = []
        self.read = method_framing.frame_handler(self, lambda *found: self.methods.append(found))
        self.send = method_framing.frame_writer(self, self)

    def write(self, data):
        self.data += bytes(data)

    def take(self, data):
        """Have py-amqp read it, and return its methods."""
        at = 0
        while at < len(data):
            kind, channel, size = frames._FRAME.unpack_from(data, at)
            assert data[at + 7 + size] == 0xCE
            assert size + 8 <= self.frame_max
            self.read((kind, channel, data[at + 7 : at + 7 + size]))
            at += size + 8
        return self.methods


@given(st.binary(max_size=300), TEXTS, TEXTS, TEXTS, st.integers(40, 100))
def test_a_message_as_it_is_published(body, key, reply_to, expiration, largest):
    properties = Properties(reply_to.encode(), expiration.encode(), b"")
    data = frames.publish(1, key.encode(), mandatory=True) + frames.content(1, body, properties, max(largest, 90 + 40))
    wire = Wire()
    ((channel, method, payload, message),) = _published(wire, data)
    assert (channel, method) == (1, spec.Basic.Publish)
    assert serialization.loads("Bssbb", payload, 4)[0] == [0, "", key, True, False]
    assert (message.body or b"") == body
    assert message.properties == {
        name: text for name, text in (("reply_to", reply_to), ("expiration", expiration)) if text
    }


def _published(wire, data):
    """Read what a client sends, which py-amqp's reader does not expect to get, as if it were delivered."""
    reading = method_framing.frame_handler(
        wire, lambda *found: wire.methods.append(found), content_methods=frozenset([spec.Basic.Publish])
    )
    wire.read = reading
    return wire.take(data)


@given(st.binary(max_size=600), SHORTS, st.tuples(st.integers(0, 2**63), st.booleans()), st.integers(1, 700), st.data())
def test_a_message_as_it_is_delivered(body, consumer, delivery, size, data):
    tag, again = delivery
    given_ = {"reply_to": data.draw(TEXTS), "app_id": data.draw(TEXTS)} | data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "content_type": TEXTS,
                "content_encoding": TEXTS,
                "application_headers": st.dictionaries(TEXTS, st.integers(0, 9) | TEXTS, max_size=3),
                "delivery_mode": st.integers(1, 2),
                "priority": st.integers(0, 9),
                "correlation_id": TEXTS,
                "expiration": TEXTS,
                "message_id": TEXTS,
                "timestamp": st.integers(0, 2**31),
                "type": TEXTS,
                "user_id": TEXTS,
            },
        )
    )
    wire = Wire()
    wire.frame_max = 256
    arguments = frames.short(consumer) + frames._TAG.pack(tag, again) + frames.short(b"forkd") + frames.short(b"k")
    wire.send(1, 3, spec.Basic.Deliver, arguments, amqp.Message(body, **given_))
    wire.send(8, 0, None, None, None)
    reader = frames.Reader(131072)
    stream = wire.data * 2
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at : at + size])]
    expected = Message(
        3,
        frames.DELIVER,
        body,
        given_["reply_to"].encode(),
        given_["app_id"].encode(),
        consumer,
        tag,
        again,
        b"forkd",
    )
    assert found == [expected, expected]


def test_methods_as_py_amqp_has_them():
    wire = Wire()
    data = (
        frames.ack(1, 7)
        + frames.consume(1, b"q", b"t")
        + frames.cancel(1, b"t")
        + frames.passive_declare(2, b"q")
        + frames.method(1, frames.QOS, frames.NO_QOS)
        + frames.method(0, frames.CONNECTION_CLOSE, frames.CLOSE)
        + frames.HEARTBEAT
    )
    found = [(channel, method, payload[4:]) for channel, method, payload, _ in wire.take(data)]
    dumps = serialization.dumps
    assert found == [
        (1, spec.Basic.Ack, dumps("Lb", (7, False))),
        (1, spec.Basic.Consume, dumps("BssbbbbF", (0, "q", "t", False, False, False, False, {}))),
        (1, spec.Basic.Cancel, dumps("sb", ("t", False))),
        (2, spec.Queue.Declare, dumps("BsbbbbbF", (0, "q", True, False, False, False, False, {}))),
        (1, spec.Basic.Qos, dumps("lBb", (0, 0, False))),
        (0, spec.Connection.Close, dumps("BsBB", (200, "", 0, 0))),
    ]


def test_arguments_are_read():
    dumps = serialization.dumps
    assert frames.consumer_count(dumps("sll", ("q", 5, 7))) == 7
    assert frames.tag(dumps("Lb", (9, True))) == (9, True)
    assert frames.reason(dumps("BsBB", (320, "CONNECTION_FORCED", 0, 0))) == "320 CONNECTION_FORCED"
    assert frames.text(dumps("s", ("low on memory",))) == "low on memory"


def test_a_returned_message_and_other_methods_between():
    properties = Properties(b"r", b"", b"")
    returned = frames.method(1, frames.RETURN, b"\x01\x38" + frames.short(b"NO_ROUTE") + bytes(2))
    data = returned + frames.ack(2, 1) + frames.content(1, b"body", properties, 131072)
    first, second = frames.Reader(131072).feed(data)
    assert first == Method(2, frames.ACK, (1).to_bytes(8, "big") + b"\0")
    assert second == Message(1, frames.RETURN, b"body", b"r", b"", b"", 0, False, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(1 << 21),
        frames.ack(1, 7)[:-1] + b"\0" + frames.HEARTBEAT,
        frames.content(1, b"body", Properties(), 131072),
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(ProtocolError):
        list(frames.Reader(131072).feed(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error_that_ends_the_connection(data):
    with contextlib.suppress(*frames.BROKEN):
        list(frames.Reader(131072).feed(data))
