"""The load: clients that ask without end, each with one request at a time, and know which worker it is with."""

from __future__ import annotations

import http.client
import select
import threading
import time

from forkd import rpc
from forkd.rpc.errors import RpcError
from tests.chaos.stage import CALLED, Stage
from tests.chaos.victims import Failure, Victims

_PERIOD = 0.01  # seconds between two requests of one client
_PATIENCE = 20.0


class Visitor(threading.Thread):
    """One client of one service. `excused` counts requests that were with a process that was hit."""

    def __init__(self, service: str, victims: Victims) -> None:
        super().__init__(name=f"{type(self).__name__} of {service}", daemon=True)
        self.service = service
        self.answered = self.excused = 0
        self.slowest = 0.0
        self.failures: list[Failure] = []
        self._victims = victims
        self._over = threading.Event()
        self._pid: int | None = None
        self._port: int | None = None

    def run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                self._ask()
            except (OSError, http.client.HTTPException, RpcError) as error:
                self._note(began, error)
            else:
                self.answered += 1
                if self._pid not in self._victims.cruelly:
                    self.slowest = max(self.slowest, time.monotonic() - began)
            self._over.wait(max(0.0, began + _PERIOD - time.monotonic()))
        self._close()

    def stop(self) -> None:
        self._over.set()

    def _note(self, began: float, error: Exception) -> None:
        ended = time.monotonic()
        failure = Failure(self.service, self._pid, self._port, began, ended, f"{type(error).__name__}: {error}")
        if self._victims.excuse(failure):
            self.excused += 1
        else:
            self.failures.append(failure)
        self._drop()

    def _ask(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        self._pid = self._port = None


class Browser(Visitor):
    """Asks over HTTP, with keep-alive or without."""

    def __init__(self, service: str, victims: Victims, port: int, *, keep_alive: bool) -> None:
        super().__init__(service, victims)
        self._keep_alive = keep_alive
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)

    def _ask(self) -> None:
        connection = self._connection
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            if self._pid not in self._victims.cruelly:
                raise ConnectionResetError("closed while it was idle")
            self._drop()
        if connection.sock is None:
            self._connect()
        connection.request("GET", "/", headers={} if self._keep_alive else {"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode()
        if response.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"{response.status} {body}")
        self._pid = int(body.split()[-1])

    def _connect(self) -> None:
        self._pid, self._port = None, 0  # who answered on the last one is another matter, and a refusal has no excuse
        self._connection.connect()
        self._port = self._connection.sock.getsockname()[1]

    def _drop(self) -> None:
        super()._drop()
        self._connection.close()


class Caller(Visitor):
    """Calls a method."""

    def __init__(self, victims: Victims, runtime_dir: str) -> None:
        super().__init__(CALLED, victims)
        self._client = rpc.Client(CALLED, timeout=_PATIENCE, runtime_dir=runtime_dir)

    def _ask(self) -> None:
        self._pid = None
        self._pid = self._client.call("pid")

    def _close(self) -> None:
        self._client.close()


def visitors(stage: Stage, victims: Victims) -> list[Visitor]:
    """Return the clients of every service, not yet started."""
    browsers = [
        Browser(name, victims, port, keep_alive=keep_alive)
        for name, port in stage.web_ports.items()
        for keep_alive in (True, True, False)
    ]
    return [*browsers, *(Caller(victims, str(stage.runtime_dir)) for _ in range(2))]
