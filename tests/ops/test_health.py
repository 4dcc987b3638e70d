"""The session of the service `healthcheck` with its launcher, which the test is: on real sockets, with real answers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from forkd.errors import ProtocolError
from forkd.ops import health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PATIENCE = 20.0  # seconds


class Launcher:
    """A control socket with one client, the session; and workers, each of which answers with its status."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.statuses: dict[int, int] = {}
        self.asked: dict[int, int] = {}
        self._servers: list[asyncio.Server] = []
        self._requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._turn = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._servers.append(await asyncio.start_unix_server(self._hear, self.folder / "forkd.sock"))
        self.session = asyncio.create_task(health.talk(str(self.folder / "forkd.sock")))
        assert await self.next() == {"do": "events", "follow": True}
        self.say({"accepted": 1})
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.session.cancel()
        await asyncio.wait([self.session])
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.close()

    async def worker(self, id: int, status: int = 200, known: dict[str, Any] | None = None) -> dict[str, Any]:
        """Have one more; return how it is to be asked."""
        self.statuses[id], self.asked[id] = status, 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            self.asked[id] += 1
            self._turn.set()
            writer.write(f"HTTP/1.1 {self.statuses[id]} Whatever\r\n\r\n".encode())
            writer.close()

        path = self.folder / f"{id}.sock"
        self._servers.append(await asyncio.start_unix_server(answer, path))
        how = {"http": "/healthz", "interval": 0.02, "timeout": 10.0, "failures": 3}
        return {"id": id, "socket": str(path), **how, "health": known}

    async def wanted(self, *checks: dict[str, Any]) -> None:
        """Be asked whom to ask, and answer."""
        assert await self.next() == {"do": "checks"}
        self.say({"checks": checks})

    async def next(self) -> dict[str, Any]:
        """Return the next request."""
        return await asyncio.wait_for(self._requests.get(), PATIENCE)

    async def told(self) -> tuple[int, int, bool, str]:
        """Return what is told next of a worker."""
        request = await self.next()
        assert request.pop("do") == "health"
        return request["id"], request["failures"], request["unhealthy"], request["text"]

    async def rounds(self, id: int, count: int) -> None:
        """Return when a worker was asked so many times more."""
        goal = self.asked[id] + count
        async with asyncio.timeout(PATIENCE):
            while self.asked[id] < goal:
                self._turn.clear()
                await self._turn.wait()

    def say(self, line: dict[str, Any]) -> None:
        self._writers[0].write(json.dumps(line).encode() + b"\n")

    def hang_up(self) -> None:
        self._writers[0].close()

    @property
    def silent(self) -> bool:
        return self._requests.empty()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while line := await reader.readline():
            self._requests.put_nowait(json.loads(line))


@pytest.fixture
def play(short_tmp: Path) -> Callable[[Callable[[Launcher], Awaitable[None]]], None]:
    """Return a function that runs a story with a launcher."""

    async def run(story: Callable[[Launcher], Awaitable[None]]) -> None:
        async with Launcher(short_tmp) as launcher:
            await story(launcher)

    return lambda story: asyncio.run(run(story))


def test_that_a_worker_is_well_is_told_once(play):
    async def story(launcher: Launcher) -> None:
        await launcher.wanted(await launcher.worker(7))
        assert await launcher.told() == (7, 0, False, "")
        await launcher.rounds(7, 3)
        assert launcher.silent

    play(story)


def test_failures_are_counted_until_it_is_unhealthy(play):
    async def story(launcher: Launcher) -> None:
        await launcher.wanted(await launcher.worker(7, 503))
        text = "503 Whatever"
        assert [await launcher.told() for _ in range(3)] == [
            (7, 1, False, text),
            (7, 2, False, text),
            (7, 3, True, text),
        ]
        await launcher.rounds(7, 3)
        assert launcher.silent
        launcher.statuses[7] = 200
        assert await launcher.told() == (7, 0, False, "")
        launcher.statuses[7] = 500
        assert await launcher.told() == (7, 1, False, "500 Whatever")

    play(story)


def test_it_goes_on_from_what_the_launcher_knows(play):
    async def story(launcher: Launcher) -> None:
        well = {"ok": True, "failures": 0, "text": ""}
        failing = {"ok": False, "failures": 2, "text": "503 Whatever"}
        await launcher.wanted(await launcher.worker(7, 200, well), await launcher.worker(8, 503, failing))
        assert await launcher.told() == (8, 3, True, "503 Whatever")
        await launcher.rounds(7, 2)
        assert launcher.silent

    play(story)


def test_news_of_workers_make_it_ask_anew(play):
    async def story(launcher: Launcher) -> None:
        first, second = [await launcher.worker(id) for id in (7, 8)]
        await launcher.wanted(first)
        assert await launcher.told() == (7, 0, False, "")
        launcher.say({"news": {"kind": "spawned", "id": 8}})
        for kind in ("ready", "draining", "exited"):
            launcher.say({"news": {"kind": kind, "id": 8}})
        await launcher.wanted(second)
        assert await launcher.told() == (8, 0, False, "")
        before = launcher.asked[7]
        await launcher.rounds(8, 3)
        assert launcher.asked[7] == before
        assert launcher.silent

    play(story)


def test_lost_news_make_it_ask_anew(play):
    async def story(launcher: Launcher) -> None:
        await launcher.wanted()
        launcher.say({"lost": 3})
        await launcher.wanted(await launcher.worker(7))
        assert await launcher.told() == (7, 0, False, "")

    play(story)


def test_it_ends_with_the_connection(play):
    async def story(launcher: Launcher) -> None:
        await launcher.wanted(await launcher.worker(7))
        launcher.hang_up()
        with pytest.raises(ConnectionError, match="closed the connection"):
            await launcher.session

    play(story)


def test_it_ends_when_it_is_refused(play):
    async def story(launcher: Launcher) -> None:
        launcher.say({"error": "too many connections to the launcher"})
        with pytest.raises(ExceptionGroup) as caught:
            await launcher.session
        assert caught.group_contains(ProtocolError, match="too many connections")

    play(story)


def test_nobody_is_asked_without_a_launcher(short_tmp):
    with pytest.raises(FileNotFoundError):
        asyncio.run(health.talk(str(short_tmp / "forkd.sock")))
