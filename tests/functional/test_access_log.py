"""The access log of the installed command: several workers in one file, which is rotated, and nothing is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import APP, COMMAND
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.installed import Installed

HEARS = """
import signal
signal.signal(signal.SIGUSR1, lambda number, frame: open("heard", "w").close())
"""


def logged(forkd: Installed, **keys: Any) -> dict[str, dict[str, Any]]:
    """Return the service `web` with an access log."""
    return {"web": forkd.web(access_log={"file": str(forkd.folder / "access.log"), "format": "json"}, **keys)}


def lines(forkd: Installed, name: str = "access.log*") -> list[dict[str, Any]]:
    return [json.loads(line) for path in forkd.folder.glob(name) for line in path.read_text().splitlines()]


class Asking:
    """A client that gives each of its requests a number of its own, until it is told to stop."""

    def __init__(self, port: int, name: str) -> None:
        self.asked: list[str] = []
        self._name = name
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)
        while not self._over.is_set():
            query = f"{self._name}-{len(self.asked)}"
            connection.request("GET", f"/?{query}")
            assert connection.getresponse().read()
            self.asked.append(query)
            if len(self.asked) % 50 == 0:  # so that both workers have their share
                connection.close()
        connection.close()


@contextlib.contextmanager
def asking(port: int) -> Iterator[list[Asking]]:
    clients = [Asking(port, name) for name in "abcd"]
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()


def ask_in_vain(forkd: Installed) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        forkd.get("/held")


def test_a_file_is_rotated_under_load_and_no_line_is_lost_or_doubled(forkd: Installed, concurrency: str) -> None:
    forkd.configure(logged(forkd, workers=2, concurrency=concurrency))
    forkd.start()
    current = forkd.folder / "access.log"
    with asking(forkd.port) as clients:
        for number in range(5):
            until(lambda: current.exists() and len(current.read_bytes()) > 20_000, what="lines")
            current.rename(forkd.folder / f"access.log.{number}")
            if number % 2:
                assert forkd.run("signal", "web", "USR1").returncode == 0
            else:
                forkd.signal(signal.SIGUSR1)
            until(current.exists, what="a new file")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    found = [line["query"] for line in lines(forkd)]
    asked = [query for client in clients for query in client.asked]
    assert sorted(found) == sorted(asked)
    assert {line["slot"] for line in lines(forkd)} == {0, 1}
    ids = {line["request_id"] for line in lines(forkd)}
    assert len(ids) == len(asked)
    assert len({id_[:16] for id_ in ids}) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_what_was_answered_is_written_before_a_worker_ends(
    forkd: Installed, concurrency: str, number: signal.Signals
) -> None:
    forkd.configure(logged(forkd, concurrency=concurrency))
    forkd.start()
    for _ in range(10):
        forkd.get("/")
    forkd.signal(number)
    assert forkd.wait() == 0
    assert len(lines(forkd)) == 10


def test_a_quit_during_a_drain_loses_no_line(forkd: Installed, concurrency: str) -> None:
    forkd.configure(logged(forkd, concurrency=concurrency))
    forkd.start()
    held = threading.Thread(target=ask_in_vain, args=(forkd,))
    held.start()
    until(lambda: forkd.in_flight() == 1, what="the request")
    for _ in range(10):
        forkd.get("/")
    forkd.signal(signal.SIGTERM)
    until(lambda: "draining" in forkd.log.read_text() or forkd.service()["state"] == "stopping", what="the drain")
    forkd.signal(signal.SIGQUIT)
    assert forkd.wait() == 0
    held.join(10)
    assert [line["path"] for line in lines(forkd)][:10] == ["/"] * 10


def test_an_application_keeps_its_own_handler(forkd: Installed, concurrency: str) -> None:
    forkd.write("app.py", APP + HEARS)
    forkd.configure(logged(forkd, concurrency=concurrency))
    forkd.start()
    current = forkd.folder / "access.log"
    current.rename(forkd.folder / "old")
    assert forkd.run("signal", "web/0", "USR1").returncode == 0
    until((forkd.folder / "heard").exists, what="the application's handler")
    until(current.exists, what="a new file")


def test_a_file_that_cannot_be_opened_anew_is_told_and_the_old_one_goes_on(forkd: Installed) -> None:
    folder = forkd.folder / "logs"
    folder.mkdir()
    services = logged(forkd)
    services["web"]["access_log"]["file"] = str(folder / "access.log")
    forkd.configure(services)
    forkd.start()
    folder.rename(forkd.folder / "moved")
    forkd.signal(signal.SIGUSR1)
    until(lambda: f"access log: {folder}/access.log stays as it was" in forkd.log.read_text(), what="the complaint")
    forkd.get("/")
    until(lambda: lines(forkd, "moved/*"), what="a line")
    folder.mkdir()
    assert forkd.run("signal", "web", "HUP").returncode == 0
    until((folder / "access.log").exists, what="a new file")


def test_a_service_without_a_log_ignores_the_signal(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(concurrency=concurrency)})
    (pid,) = forkd.start().workers()
    forkd.signal(signal.SIGUSR1)
    assert forkd.run("signal", "web", "USR1").returncode == 0
    assert forkd.get("/") == f"one {pid}"


def test_a_file_that_cannot_be_opened_prevents_the_start_and_names_the_key(forkd: Installed) -> None:
    services = logged(forkd)
    services["web"]["access_log"]["file"] = str(forkd.folder / "missing" / "access.log")
    forkd.configure(services)
    forkd.start(ready=False)
    said = f"access_log.file: cannot open {forkd.folder}/missing/access.log: No such file or directory"
    until(lambda: said in (forkd.service().get("error") or ""), what="the reason")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_is_the_launchers_own(forkd: Installed, stream: str) -> None:
    forkd.configure({"web": forkd.web(access_log={"file": stream})})
    forkd.start()
    forkd.get("/some?query")
    until(lambda: '"GET /some?query HTTP/1.1" 200 ' in forkd.log.read_text(), what="the line")


def test_a_service_in_the_foreground_heeds_the_signal_too(forkd: Installed, concurrency: str) -> None:
    forkd.configure(logged(forkd, concurrency=concurrency))
    current = forkd.folder / "access.log"
    with forkd.log.open("ab") as log:
        process = subprocess.Popen(
            [COMMAND, "run", "--config", forkd.config, "web"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=forkd.environment(), cwd=forkd.folder,
        )  # fmt: skip
    try:
        until(lambda: "ready" in forkd.log.read_text(), what="the service")
        current.rename(forkd.folder / "access.log.1")
        os.kill(process.pid, signal.SIGUSR1)
        until(current.exists, what="a new file")
        forkd.get("/")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert len(lines(forkd)) == 1
