"""The commands' end of the control socket; it may block, since only a client waits for it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Self

from forkd.control import protocol
from forkd.errors import ForkdError, NotRunning, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_LIMIT = 64 * 1024 * 1024  # bytes of one line
ANSWER_TIMEOUT = 10.0  # seconds for the first answer: the launcher never blocks, so it is stopped or starved
EXIT_TIMEOUT = 10.0  # seconds from the launcher's last word to its end
_CREDENTIALS = struct.Struct("3i")


class _Silence(ForkdError):
    """The launcher says nothing for as long as it may."""


class Client:
    """A connection to the launcher of one runtime directory.

    Raises NotRunning when none answers there, and ForkdError when it may not be asked.
    """

    def __init__(self, runtime_dir: str) -> None:
        self._dir = runtime_dir
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = bytearray()
        self._sock.settimeout(ANSWER_TIMEOUT)
        try:
            self._connect(os.path.join(runtime_dir, protocol.SOCKET))
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def status(self, service: str | None = None) -> dict[str, Any]:
        """Return the launcher's picture of itself and its services; of `service` with the last exits of each slot."""
        picture: dict[str, Any] = self._ask(protocol.Request("status", service), "status", dict)
        return picture

    def follow(self, request: protocol.Request, until: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield the lines that tell how a request fares: `accepted`, `news` …, `ended`; none after the instant `until`.

        The stop of everything goes on until the launcher is gone, a request that says `follow` without an end.
        """
        last = request.verb == "stop" and request.service is None
        launcher = _watch(self._peer()[0]) if last else None
        try:
            for answer in self._answers(request):
                yield answer
                self._sock.settimeout(None if until is None else max(0.001, until - time.monotonic()))
                if "ended" in answer and not (last or request.follow):
                    return
            _wait_for_exit(launcher)
        except _Silence:
            if until is None:
                raise
        finally:
            if launcher is not None:
                os.close(launcher)

    def _ask(self, request: protocol.Request, key: str, kind: type) -> Any:
        answer = next(self._answers(request), None)
        if answer is None or not isinstance(answer.get(key), kind):
            msg = f"the launcher of {self._dir} closed the connection without an answer"
            raise ProtocolError(msg)
        return answer[key]

    def _connect(self, path: str) -> None:
        try:
            self._sock.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            msg = (
                f"no launcher is running on {self._dir}; "
                "start one with `forkd start -c FILE`, or name another by -c or --runtime-dir"
            )
            raise NotRunning(msg) from None
        except OSError as error:
            msg = f"cannot reach the launcher of {self._dir}: {error.strerror or error}"
            raise ForkdError(msg) from None
        uid = self._peer()[1]
        if os.geteuid() not in {0, uid} and uid != 0:
            msg = f"{path} belongs to user {uid}, who is neither root nor you: refused"
            raise ForkdError(msg)

    def _peer(self) -> tuple[int, int, int]:
        raw = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return pid, uid, gid

    def _answers(self, request: protocol.Request) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(BrokenPipeError):  # refused before it was read: the reason is there to be read
            self._sock.sendall(protocol.request_line(request))
        while (line := self._line()) is not None:
            answer = protocol.decode(line)
            if "error" in answer:
                raise ForkdError(str(answer["error"]))
            yield answer

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            try:
                data = self._sock.recv(256 * 1024)
            except TimeoutError:
                msg = f"the launcher of {self._dir} does not answer (stopped by a signal, or a starved machine?)"
                raise _Silence(msg) from None
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._buffer += data
            if len(self._buffer) > ANSWER_LIMIT:
                msg = f"the launcher of {self._dir} answers without an end"
                raise ProtocolError(msg)
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return bytes(line)


def _watch(pid: int) -> int | None:
    """Open what becomes readable when the launcher ends; it may be in a namespace where we do not see it."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _wait_for_exit(launcher: int | None) -> None:
    """Wait for the end of a launcher that has closed its connection: whoever comes next finds everything free."""
    if launcher is not None:
        poll = select.poll()
        poll.register(launcher, select.POLLIN)
        poll.poll(EXIT_TIMEOUT * 1000)
