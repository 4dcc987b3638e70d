"""Random connections: good requests and those of the corpus, changed a little, one behind another, cut anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tests.wsgi.corpus import BODIES, LEGAL, MALFORMED

if TYPE_CHECKING:
    import random

HALF, CLOSE, RESET = "half", "close", "reset"
"""How a client ends: it sends no more but reads, it closes, or it resets the connection."""

SMUGGLED = b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n"
BODY_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
# What the application leaves unread is told by the path: see tests/wsgi/recorder.py.
TARGETS = [b"/", b"/a?b", b"/leave", b"/leave/it", b"http://b/c", b"//a", b"/%20"]
BYTES = [bytes([byte]) for byte in b"\r\n\t\v\f\0\x1c\x7f\x80\x85\xa0\xff :;,=\"'\\_+-0159aAfFxX#?/@[]%*"] + [b"\r\n"]
TOKENS = (
    b"Host|Content-Length|Transfer-Encoding|Connection|Expect|chunked|close|keep-alive|HTTP/1.1|HTTP/1.0|GET|POST|"
    b'HEAD|OPTIONS|100-continue|identity|gzip|/|/leave|*|http://b|0\r\n\r\n|\r\n\r\n|;a|;a=b|;a="|,chunked|0x|1_0'
).split(b"|")
FIELDS = (
    b"Host: a|Host:|Host: b:80|Content-Length: 0|Content-Length: 5|Content-Length: 31|Content-Length: 30001|"
    b"Transfer-Encoding: chunked|Transfer-Encoding: |Transfer-Encoding: gzip, chunked|Connection: close|"
    b"Connection: keep-alive|Connection: upgrade|Upgrade: h2c|Proxy-Connection: close|Expect: 100-continue|Expect: x|"
    b"X: \xff|X:|Content_Length: 5|Trailer: X|TE: trailers|Content-Type: a| folded|Cookie: a=b|Proxy: x"
).split(b"|")


class Script(NamedTuple):
    """What one client sends, piece by piece, and how it ends."""

    pieces: list[bytes]
    ending: str

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def script(rng: random.Random) -> Script:
    data = b"".join(_mutated(rng, _message(rng)) for _ in range(rng.choice([1, 1, 2, 3, 4])))
    if rng.random() < 0.15:
        data = data[: rng.randrange(len(data) + 1)]
    return Script(_cut(rng, data), rng.choices([HALF, CLOSE, RESET], [80, 10, 10])[0])


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 12])))
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True) if end > start]


def _message(rng: random.Random) -> bytes:
    source = rng.random()
    if source < 0.25:
        return rng.choice(LEGAL).data
    if source < 0.4:
        return rng.choice(MALFORMED).data
    if source < 0.5:
        return BODY_HEAD + rng.choice(BODIES).data
    return _request(rng)


def _request(rng: random.Random) -> bytes:
    """Return a good request, with or without a body."""
    method = rng.choice([b"GET", b"POST", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
    fields = [rng.choice([b"Host: a", b"Host: a", b"host:b"])]
    fields += rng.choices([b"X: a", b"X:", b"Y: \xe9", b"Connection: keep-alive", b"Cookie: a=b"], k=rng.randrange(3))
    body = b""
    framing = rng.random()
    if framing < 0.7:
        body = _body(rng)
        fields += rng.choice([[], [], [b"Expect: 100-continue"]])
        fields.append(b"Transfer-Encoding: chunked" if framing < 0.45 else b"Content-Length: %d" % len(body))
        body = _chunked(rng, body) if framing < 0.45 else body
    rng.shuffle(fields)
    return b"\r\n".join([method + b" " + rng.choice(TARGETS) + b" HTTP/1.1", *fields, b"", b""]) + body


def _body(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return SMUGGLED * rng.randrange(1, 3)
    if kind == 1:
        return rng.choice([b"0\r\n\r\n", b"\r\n", b"5\r\nabcde\r\n0\r\n\r\n"]) + SMUGGLED
    size = rng.choice([0, 1, 5, 100, 100, 5000, 20000])
    return rng.randbytes(size) if size <= 100 else rng.randbytes(10) * (size // 10)


def _chunked(rng: random.Random, body: bytes) -> bytes:
    pieces = []
    while body:
        size = min(
            len(body), rng.choice([1, 2, 15, 16, 17, 1000, 70000]) if len(body) < 300 else 1 + rng.randrange(9000)
        )
        pieces.append(_size(rng, size) + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    trailers = rng.choice([b"", b"", b"", b"X: a\r\n", b"Content-Length: 5\r\nHost: b\r\n"])
    return b"".join([*pieces, _size(rng, 0), b"\r\n", trailers, b"\r\n"])


def _size(rng: random.Random, size: int) -> bytes:
    digits = b"0" * rng.choice([0, 0, 0, 2]) + rng.choice([b"%x", b"%X"]) % size
    return digits + rng.choice([b"", b"", b"", b";a", b";a=b", b' ; a="\\"b;" ;c'])


# --- changes ---------------------------------------------------------------------------------------------------------


def _mutated(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([0, 0, 0, 1, 1, 1, 2, 3])):
        data = rng.choice(CHANGES)(rng, data)
    return data


def _place(rng: random.Random, data: bytes) -> int:
    """Return an index, more often one near a line end or another sign that matters."""
    signs = [found.start() for found in re.finditer(rb"[\r\n:; ,=]", data[:6000])]
    if signs and rng.random() < 0.7:
        return min(len(data), max(0, rng.choice(signs) + rng.randrange(-1, 3)))
    return rng.randrange(len(data) + 1)


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice(BYTES) + data[at:]


def _replace(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice(BYTES) + data[at + 1 :]


def _delete(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice([1, 1, 1, 2, 10]) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    size = rng.choice([1, 2, 4, 20])
    return data[:at] + data[at : at + size] * rng.choice([2, 2, 30]) + data[at + size :]


def _swap_tokens(rng: random.Random, data: bytes) -> bytes:
    there = [token for token in TOKENS if token in data]
    if not there:
        return data
    token = rng.choice(there)
    before, _, behind = data.partition(token)
    return before + rng.choice(TOKENS) + behind


def _add_field(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(rng.randrange(1, min(len(lines), 6) + 1), rng.choice(FIELDS))
    return b"\r\n".join(lines)


def _change_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = rng.randrange(len(lines))
    lines[at : at + 1] = rng.choice(
        [[], [lines[at]] * 2, [lines[at]] * 120, [lines[at], lines[rng.randrange(len(lines))]]]
    )
    return b"\r\n".join(lines)


def _change_number(rng: random.Random, data: bytes) -> bytes:
    numbers = list(re.finditer(rb"\b[0-9]+\b", data[:6000]))
    if not numbers:
        return data
    found = rng.choice(numbers)
    number = int(found[0][:30])
    changed = rng.choice([number + 1, abs(number - 1), number * 2, number + 2**32, number + 2**64, number + 100])
    return data[: found.start()] + b"%d" % changed + data[found.end() :]


def _splice(rng: random.Random, data: bytes) -> bytes:
    other = _message(rng)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _lengthen(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return (
        data[:at] + rng.choice([b"a", b"0", b" ", b"\r\n", b"x: y\r\n"]) * rng.choice([10, 50, 500, 2000]) + data[at:]
    )


CHANGES = [
    *[_insert, _replace, _delete] * 4,
    *[_repeat, _swap_tokens, _add_field, _change_lines, _change_number] * 2,
    _splice,
    _lengthen,
]
