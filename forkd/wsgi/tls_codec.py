"""The TLS of one connection, in memory: what comes over the wire to what it means, and back; it knows no socket."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from forkd.wsgi.refusal import TlsFailed
from forkd.wsgi.tls_environ import variables

_RECORD = 16384  # bytes; more at a time would only grow OpenSSL's buffers, which an idle connection keeps
_MOST_SILENT = 2 * _RECORD  # bytes that come to no data: a record has fewer, and new keys cost us most of all


class Codec:
    """OpenSSL's part in a connection. All that has come is decoded at once, so none of it is kept that could be had.

    `open`: hands are shaken. `ended`: nothing more will come, as the client has said; or else as its `failure` says.
    """

    __slots__ = ("_environ", "_incoming", "_outgoing", "_silent", "_tls", "ended", "failure", "open")

    def __init__(self, context: ssl.SSLContext, environ: dict[str, Any]) -> None:
        """Begin; when hands are shaken, `environ` gets the variables that tell of the connection."""
        self._environ = environ
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._silent = 0  # bytes that have come since the last that were data
        self.open = False
        self.ended = False
        self.failure: TlsFailed | None = None

    def decode(self, received: bytes) -> bytes:
        """Return what these bytes, behind those before them, mean as a whole; nothing, too, where that `ended` it."""
        pieces: list[bytes] = []
        try:
            for at in range(0, len(received), _RECORD):
                self._incoming.write(received[at : at + _RECORD])
                if self._take(pieces):
                    self._silent = 0
                    continue
                self._silent += min(_RECORD, len(received) - at)
                if self.open and self._silent > _MOST_SILENT:
                    raise TlsFailed("it sends much, and says nothing")
        except (ssl.SSLError, TlsFailed) as error:
            self.failure = TlsFailed(str(error))
            self.ended = True
        return b"".join(pieces)

    def encode(self, data: memoryview) -> bytes:
        """Return `data` as it goes over the wire, behind what OpenSSL itself had to say."""
        pieces = []
        at = 0
        while at < len(data):
            at += self._tls.write(data[at : at + _RECORD])
            pieces.append(self._outgoing.read())
        return b"".join(pieces)

    def own_words(self) -> bytes:
        """Return what OpenSSL says by itself: its part of the handshake, tickets, alerts, new keys, a farewell."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def part(self) -> None:
        """Say that nothing more will come from here."""
        if self.open and self.failure is None:
            with suppress(ssl.SSLError):  # that the client has not said it yet
                self._tls.unwrap()

    def _take(self, pieces: list[bytes]) -> bool:
        """Add to `pieces` what OpenSSL has decoded; return whether there was any."""
        before = len(pieces)
        with suppress(ssl.SSLWantReadError):
            if not self.open:
                self._shake_hands()
            while piece := self._tls.read(_RECORD):
                pieces.append(piece)
            self.ended = True
        return len(pieces) > before

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self.open = True
        self._silent = 0
        self._environ.update(variables(self._tls))
