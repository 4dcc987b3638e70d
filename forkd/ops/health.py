"""The service `healthcheck` of forkd's own: asks every worker that has a healthcheck, and tells the launcher.

The launcher knows whom to ask, and decides what becomes of who fails. Nothing is kept here that it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from forkd.config.runtime_dir import present_runtime_dir
from forkd.control import protocol
from forkd.control.client import ANSWER_LIMIT
from forkd.errors import ForkdError, ProtocolError
from forkd.ops.probe import CannotTell, ask
from forkd.server import Server

GATHER = 0.2  # seconds from the news that there are other workers to asking which: they seldom change one at a time
SOON = 1.0  # seconds within which a worker is asked for the first time
AT_ONCE = 200  # workers that are asked at the same time, for want of descriptors
_CHANGES = {"ready", "draining", "exited"}
_GOLDEN = 0.6180339887498949  # its multiples spread evenly over the unit interval, however many there are

_log = logging.getLogger("forkd.health")


class Prober(Server):
    """Runs a session with the launcher; when that ends, so does the service, to be started anew."""

    def start(self) -> None:
        """Begin to ask."""
        if self.service is None:
            raise ForkdError("the server is started before its init(service)")
        self._loop = asyncio.new_event_loop()
        self._session = self._loop.create_task(talk(os.path.join(present_runtime_dir(), protocol.SOCKET)))
        self.service.thread_group.add_loop(self._run)

    def stop(self, graceful: bool = True) -> None:  # noqa: ARG002 -- nothing is worth waiting for
        """Ask nobody any more."""
        self._loop.call_soon_threadsafe(self._session.cancel)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._session)
        except asyncio.CancelledError:
            return
        except Exception:  # noqa: BLE001 -- whatever it is, a new process begins without it
            _log.exception("lost the launcher")
        if self.service is not None:
            self.service.stop(graceful=False)


async def talk(path: str) -> None:
    """Ask workers for the launcher whose control socket is at `path`; raise ConnectionError when it has had enough."""
    reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_LIMIT)
    try:
        await _Session(writer).run(reader)
    finally:
        writer.transport.abort()
    raise ConnectionError("the launcher has closed the connection")


class _Session:
    """A connection to the launcher, with a task for each worker that it wants to be asked."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._look: asyncio.TimerHandle | None = None

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Do what the launcher says until it says nothing more."""
        async with asyncio.TaskGroup() as group:
            self._say(do="events", follow=True)
            while line := await reader.readline():
                self._heed(protocol.decode(line), group)
            self._ask_only({}, group)

    def _heed(self, line: dict[str, Any], group: asyncio.TaskGroup) -> None:
        if "error" in line:
            raise ProtocolError(str(line["error"]))
        if "checks" in line:
            self._ask_only({check["id"]: check for check in line["checks"]}, group)
        # What is no news says that they begin, or that some were lost.
        elif self._look is None and ("news" not in line or line["news"]["kind"] in _CHANGES):
            self._look = asyncio.get_running_loop().call_later(GATHER, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._say(do="checks")

    def _ask_only(self, checks: dict[int, dict[str, Any]], group: asyncio.TaskGroup) -> None:
        for id in self._tasks.keys() - checks.keys():
            self._tasks.pop(id).cancel()
        for id in checks.keys() - self._tasks.keys():
            self._tasks[id] = group.create_task(self._watch(checks[id]))

    async def _watch(self, check: dict[str, Any]) -> None:
        """Ask one worker again and again, soon for the first time; those born together are soon asked apart."""
        clock, interval = asyncio.get_running_loop().time, check["interval"]
        phase = check["id"] * _GOLDEN % 1
        health, pause = check["health"], interval * (1 + phase) / 2
        await asyncio.sleep(phase * min(SOON, interval))
        while True:
            began = clock()
            try:
                async with self._places:
                    began = clock()
                    fault = await ask(check["socket"], check["http"], check["timeout"])
            except CannotTell:
                await asyncio.sleep(min(SOON, interval))
                continue
            health = self._judge(check, health, fault)
            await asyncio.sleep(began + pause - clock())
            pause = interval

    def _judge(self, check: dict[str, Any], before: dict[str, Any] | None, fault: str) -> dict[str, Any]:
        """Return how the worker is, and tell the launcher what it does not know yet."""
        failures = min(check["failures"], (before["failures"] if before else 0) + 1) if fault else 0
        health = {"ok": not fault, "failures": failures, "text": fault}
        if health != before:
            self._say(
                do="health", id=check["id"], failures=failures, unhealthy=failures == check["failures"], text=fault
            )
        return health

    def _say(self, **request: Any) -> None:
        self._writer.write(protocol.encode(request))
