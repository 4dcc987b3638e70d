"""Remote calls over RabbitMQ under the installed command: reloads, a broker that is not there yet, and its password."""

from __future__ import annotations

import itertools
import json
import pathlib
import threading
from typing import TYPE_CHECKING, Self

import pytest

from forkd import rpc
from tests.broker import Broker
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.installed import Installed

PASSWORD = "hunter2-of-the-broker"
LEDGER = """
from forkd import rpc

class Ledger(rpc.Server):
    def book(self, key):
        with open("booked", "a") as file:
            file.write(f"{key}\\n")
        return key
"""


class Load:
    """Callers that book one key after the other, each with a client of its own."""

    def __init__(self, url: str, count: int = 4) -> None:
        self.booked: list[int] = []
        self.errors: list[Exception] = []
        self._keys = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url,)) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def goes_on(self) -> None:
        before = len(self.booked)
        until(lambda: len(self.booked) > before + 20, 60, "calls are answered")

    def _run(self, url: str) -> None:
        with rpc.Client("ledger", url) as client:
            while not self._over.is_set():
                key = next(self._keys)
                try:
                    assert client.call("book", key=key) == key
                    self.booked.append(key)
                except Exception as error:  # noqa: BLE001 -- every failure counts, whatever it is
                    self.errors.append(error)


@pytest.fixture
def url(broker: Broker, tmp_path: pathlib.Path) -> str:
    """Return an address whose password stands in a file."""
    vhost = broker.vhost()
    broker.user("ledger", PASSWORD)
    broker.permit("ledger", vhost)
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    return f"amqp://ledger@127.0.0.1:{broker.port}/{vhost}?password_file={file}"


def test_rolling_reloads_under_load_lose_no_call_and_double_none(forkd: Installed, concurrency: str, url: str) -> None:
    forkd.write("ledger.py", LEDGER)
    service = {"server": "ledger:Ledger", "topic": "ledger", "transport": url, "workers": 2, "concurrency": concurrency}
    forkd.configure({"ledger": service})
    forkd.start()
    assert not (forkd.runtime_dir / "rpc").exists()  # no sockets for who needs none
    with Load(url) as load:
        for _ in range(3):
            assert forkd.run("reload", "--wait").returncode == 0
            load.goes_on()
        assert forkd.run("scale", "ledger", "1").returncode == 0
        load.goes_on()
    assert load.errors == []
    booked = [int(key) for key in (forkd.folder / "booked").read_text().split()]
    assert sorted(booked) == sorted(load.booked)


@pytest.mark.parametrize("place", ["file", "environment", "text"])
def test_a_password_is_shown_nowhere(forkd: Installed, url: str, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    forkd.write("ledger.py", LEDGER)
    monkeypatch.setenv("BROKER_PASSWORD", PASSWORD)
    plain = url.partition("?")[0]
    given = {
        "file": url,
        "environment": plain.replace("@", ":${BROKER_PASSWORD}@"),
        "text": plain.replace("@", f":{PASSWORD}@"),
    }[place]
    forkd.configure(
        {"ledger": {"server": "ledger:Ledger", "topic": "ledger", "transport": given}}, log={"level": "debug"}
    )
    forkd.start()
    with rpc.Client("ledger", url) as client:
        assert client.call("book", key=1) == 1
    said = forkd.run("status"), forkd.run("status", "--json"), forkd.run("events"), forkd.run("stacks", "ledger")
    forkd.run("stop", "ledger")
    texts = [done.stdout + done.stderr for done in said]
    shown = "\n".join([*texts, forkd.log.read_text(), json.dumps(forkd.status()), *forkd.titles()])
    assert "hunter2" not in shown
    arguments = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in forkd.left()]
    assert b"hunter2" not in b"".join(arguments)


@pytest.fixture
def later() -> Iterator[Broker]:
    """Yield a broker that the test starts."""
    broker = Broker()
    yield broker
    broker.end()


def test_a_service_waits_for_its_broker(forkd: Installed, later: Broker) -> None:
    forkd.write("ledger.py", LEDGER)
    restart = {"delay": "50ms", "max_delay": "500ms"}
    service = {"server": "ledger:Ledger", "topic": "ledger", "transport": later.url(), "restart": restart}
    forkd.configure({"ledger": service})
    forkd.start(ready=False)
    problem = f"ledger: no broker can be reached: 127.0.0.1:{later.port}: Connection refused"
    until(lambda: problem in (forkd.service("ledger").get("error") or ""), 30, "the error in the status")
    later.start()
    forkd.until_running()
    with rpc.Client("ledger", later.url()) as client:
        assert client.call("book", key=1) == 1


def test_a_service_is_stopped_at_once_also_without_its_broker(forkd: Installed, later: Broker) -> None:
    later.start()
    forkd.write("ledger.py", LEDGER)
    forkd.configure({"ledger": {"server": "ledger:Ledger", "topic": "ledger", "transport": later.url()}})
    forkd.start()
    later.kill()
    until(lambda: "the connection to the broker was lost" in forkd.log.read_text(), 30, "the worker notices")
    assert forkd.run("stop", "--wait", timeout=20).returncode == 0
    assert forkd.wait() == 0
