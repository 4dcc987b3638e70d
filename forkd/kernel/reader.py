"""The reading of the configuration by a child that prints it as JSON; here nothing of it is parsed but that."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from forkd import process
from forkd.config.reader import LONGEST_ANSWER, outcome
from forkd.core.events import ConfigRead, ConfigRefused
from forkd.errors import ConfigError, ForkdError
from forkd.kernel.birth import become_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.core.events import Event
    from forkd.kernel.selector import Selector

_CHUNK = 65536


class NothingRead(ConfigRefused):
    """No answer: of the configuration nothing is known, so it changes as little as one that is refused."""

    __slots__ = ()


class ConfigReader:
    """At most one child reads at a time: asking again while it does starts over, and is answered once."""

    __slots__ = ("_out", "_path", "_printed", "_reset", "_selector", "pid")

    def __init__(self, path: str, selector: Selector, reset: Callable[[], None]) -> None:
        """`reset` is what a forked child does first."""
        self._path = path
        self._selector = selector
        self._reset = reset
        self._out = -1
        self._printed = bytearray()
        self.pid: int | None = None

    def start(self) -> list[Event]:
        """Start the child; a list with the reason when that fails."""
        self.stop()
        try:
            self._out, out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return [self._failure(error)]
        try:
            os.set_blocking(out, True)
            self.pid = process.fork(partial(become_reader, self._path, out), self._reset)
        except OSError as error:
            self.stop()
            return [self._failure(error)]
        finally:
            os.close(out)
        self._selector.watch(self._out, self._read)
        return []

    def stop(self) -> None:
        """Forget the child, if there is one; it is reaped as a stranger."""
        if self.pid is not None:
            self._kill()
            self.pid = None
        self._close()
        self._printed.clear()

    def ended(self, pid: int, exit_code: int) -> list[Event]:
        """Say what the child has found, if it is the one that has died; the code is negative when a signal did it."""
        if pid != self.pid:
            return []
        self._read()
        self.pid = None
        self._close()
        printed, self._printed = self._printed, bytearray()
        try:
            return [ConfigRead(outcome(bytes(printed), exit_code))]
        except ConfigError as error:
            return [ConfigRefused(tuple(error.problems))]
        except ForkdError as error:
            return [NothingRead((str(error),))]

    def _failure(self, error: OSError) -> NothingRead:
        return NothingRead((f"{self._path}: cannot be read: {error.strerror}",))

    def _read(self) -> list[Event]:
        while self._out >= 0:
            try:
                data = os.read(self._out, _CHUNK)
            except BlockingIOError:
                break
            self._printed += data
            if len(self._printed) > LONGEST_ANSWER:
                self._printed.clear()
                self._kill()
                data = b""
            if not data:
                self._close()
        return []

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or 0, signal.SIGKILL)

    def _close(self) -> None:
        if self._out >= 0:
            self._selector.unwatch(self._out)
            os.close(self._out)
            self._out = -1
