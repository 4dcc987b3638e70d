"""One healthcheck: a GET on the private socket of a worker, and what is wrong with the answer; it remembers nothing."""

from __future__ import annotations

import asyncio
import errno
import http.client
import io
import os

from forkd import __version__

ANSWER_LIMIT = 64 * 1024  # bytes; of a longer answer the status alone counts
LATE = 0.1  # seconds behind a deadline, at which this process was stopped, starved or asleep with its machine
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_REQUEST = "GET {} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: forkd-healthcheck/{}\r\nConnection: close\r\n\r\n"
_LONGEST_REASON = 100  # characters


class CannotTell(Exception):
    """The fault is this process's own: nothing is known of the worker."""


async def ask(where: str, path: str, limit: float) -> str:
    """Return what is wrong with the answer to a GET of `path` at a Unix socket; nothing when it is 200 to 399.

    All of it must be here within `limit` seconds. Raises CannotTell.
    """
    deadline = asyncio.get_running_loop().time() + limit
    try:
        async with asyncio.timeout_at(deadline):
            answer = await _exchange(where, _REQUEST.format(path, __version__).encode())
    except TimeoutError:
        if asyncio.get_running_loop().time() > deadline + LATE:
            raise CannotTell from None  # the answer may have come long ago, to nobody
        return f"no answer within {limit:g} s"
    except OSError as error:
        if error.errno in _OURS:
            raise CannotTell from error
        return os.strerror(error.errno or errno.EIO).lower()
    return _fault(answer)


async def _exchange(where: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(where)
    try:
        writer.write(request)
        answer = b""
        while len(answer) < ANSWER_LIMIT and (more := await reader.read(ANSWER_LIMIT - len(answer))):
            answer += more
        return answer
    finally:
        writer.transport.abort()


def _fault(answer: bytes) -> str:
    if not answer:
        return "closed without an answer"
    response = http.client.HTTPResponse(_Received(answer), method="GET")  # type: ignore[arg-type]  # all that it wants
    try:
        response.begin()
        if len(answer) < ANSWER_LIMIT:
            response.read()
    except http.client.IncompleteRead:
        return "the answer ends too soon"
    except (http.client.HTTPException, ValueError) as error:
        return f"not an answer of HTTP: {error!r}"[:_LONGEST_REASON]
    if 200 <= response.status < 400:
        return ""
    reason = "".join(char if char.isprintable() else "?" for char in response.reason)
    return f"{response.status} {reason}"[:_LONGEST_REASON].strip()


class _Received:
    """What came from a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return a file of it."""
        return io.BytesIO(self._data)
