"""TLS on a connection: a socket to those who use it, while OpenSSL sees memory alone. It waits for nothing.

So it is the same with both engines, and no socket of `ssl` is made, which eventlet would replace.
"""

from __future__ import annotations

import logging
from _socket import SHUT_WR
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forkd import tls_context
from forkd.errors import ForkdError
from forkd.wsgi.connection import RECEIVE_SIZE
from forkd.wsgi.fields import CLOCK
from forkd.wsgi.refusal import TlsFailed, page
from forkd.wsgi.tls_codec import Codec

if TYPE_CHECKING:
    from ssl import SSLContext

    from forkd.core.spec import TlsSpec
    from forkd.wsgi.connection import Socket

_log = logging.getLogger("forkd.wsgi")

_MOST_OWED = 65536  # bytes that are encrypted before the kernel has taken those before
_STRETCH = 1 << 20  # bytes that are sent at a time: a green thread would keep the hub to itself
_MOST_UNREAD = 16384  # bytes of OpenSSL's own that wait for a client to read them
_NOTHING = memoryview(b"")
_PLAIN = "this port speaks TLS: https"


class Tls:
    """How the ports of a server speak TLS: a context for the connections that are yet to come."""

    def __init__(self, spec: TlsSpec, context: SSLContext | None = None) -> None:
        """Take a `context`; None: make one of the files that `spec` names, and raise `ForkdError` if that fails."""
        self._spec = spec
        self._context = context or tls_context.make(spec)

    def wrap(self, sock: Socket, environ: dict[str, Any], received: bytes = b"") -> TlsSocket:
        """Return a connection's socket as one that speaks TLS; see there, and for `environ` at `Codec`."""
        return TlsSocket(Codec(self._context, environ), sock, received)

    def renew(self) -> None:
        """Read the files anew; when they are of no use, say so in the log and go on as before."""
        if not self._spec.certfile:
            return  # the context is somebody else's
        try:
            self._context = tls_context.make(self._spec)
        except ForkdError as error:
            _log.error("%s; the certificate stays as it was", error)
        else:
            _log.info("%s is read anew, for new connections", self._spec.certfile)


class TlsSocket:
    """TLS over a non-blocking socket, in as much of a socket's manner as a `Connection` needs.

    All that comes is decrypted at once, so what the kernel does not report is not there; but for the end, which may
    come with the last bytes: `ended` tells of it. 64 KiB at most wait to be sent, encrypted; `owed` is how many of them
    were given to `send`.
    """

    __slots__ = ("_begun", "_codec", "_mute", "_received", "_sock", "_unsent", "owed")

    def __init__(self, codec: Codec, sock: Socket, received: bytes = b"") -> None:
        """Take over `sock`, and bytes that were `received` from it: whoever has some calls `recv` at once."""
        self._codec = codec
        self._sock = sock
        self._received = received
        self._begun = False
        self._mute = False  # our half has ended
        self._unsent = _NOTHING  # encrypted
        self.owed = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, though nothing more will report that."""
        return self._codec.ended

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket."""
        self._sock.setsockopt(level, option, value)

    def recv(self, size: int) -> bytes:
        """Return all that has come, which may be more than `size` bytes; b"" when the client said that it is done.

        Raise `BlockingIOError` when nothing has, `TlsFailed` when it is no TLS, and `ConnectionError` at an end that
        nobody announced. Once our half has ended, whatever comes is of no interest and stays as it is.
        """
        if self._mute:
            return self._sock.recv(size)
        codec = self._codec
        data = b"" if codec.ended else codec.decode(self._receive())
        self._flush_own_words()
        if not data and codec.failure is not None:
            raise codec.failure
        if not data and not codec.ended:
            raise BlockingIOError
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send `data`, or the beginning of it, and return how much of it is with the kernel now.

        Raise `BlockingIOError` when nothing is. The next call is to go on with the data where this one has ended: some
        of it is encrypted by then, and owed.
        """
        view = memoryview(data)[:_STRETCH]
        sent = 0
        try:
            while sent < len(view):
                if not self.owed:
                    self._queue(self._codec.encode(view[sent : sent + _MOST_OWED]))
                    self.owed = min(len(view) - sent, _MOST_OWED)
                self._flush()
                sent += self.owed
                self.owed = 0
        except BlockingIOError:
            if not sent:
                raise
        return sent

    def end(self) -> None:
        """Say that nothing more will come; raise `BlockingIOError`, as often as need be, until the kernel has that."""
        if not self._mute:
            self._mute = True
            self._codec.part()
            self._queue(self._codec.own_words())
        self._flush()

    def cut(self) -> None:
        """Let the end be one that was not meant: the client is to know that something is missing."""
        self._mute = True
        self._unsent = _NOTHING

    def shutdown(self, how: int) -> None:
        """End our half in an orderly way, or, of a connection that another thread may use, both halves at once."""
        if how == SHUT_WR:
            with suppress(BlockingIOError):
                self.end()
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the socket, in an orderly way unless it was cut."""
        with suppress(OSError):
            self.end()
        self._sock.close()

    def _receive(self) -> bytes:
        """Return bytes of TLS: a record begins with a control character, a request in plain text with a letter."""
        received, self._received = self._received or self._sock.recv(RECEIVE_SIZE), b""
        if not received:
            raise ConnectionError("the connection ended, and nobody said that it would")
        if not self._begun and received[:1].isupper():
            self._unsent = memoryview(page(400, CLOCK.block(), _PLAIN))
            raise TlsFailed("it speaks plain HTTP")
        self._begun = True
        return received

    def _queue(self, encrypted: bytes) -> None:
        self._unsent = memoryview(bytes(self._unsent) + encrypted if self._unsent else encrypted)

    def _flush(self) -> None:
        """Hand to the kernel what is encrypted; raise `BlockingIOError` when it does not take all of it."""
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        self._unsent = _NOTHING

    def _flush_own_words(self) -> None:
        """Send what OpenSSL says by itself; a client that does not read it is given up."""
        words = self._codec.own_words()
        if not words:
            return
        self._queue(words)
        with suppress(BlockingIOError):
            self._flush()
        if len(self._unsent) > (_MOST_UNREAD if self._codec.open else 0):
            raise TlsFailed("it does not read what it is told")
