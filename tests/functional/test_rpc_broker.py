"""Remote calls over RabbitMQ under the installed command: a broker that is not there yet, and its password."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import pytest

from forkd import rpc
from tests.broker import Broker
from tests.traffic.ledger import SERVER
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.installed import Installed

PASSWORD = "hunter2-of-the-broker"


@pytest.fixture
def url(broker: Broker, tmp_path: pathlib.Path) -> str:
    """Return an address whose password stands in a file."""
    vhost = broker.vhost()
    broker.user("ledger", PASSWORD)
    broker.permit("ledger", vhost)
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    return f"amqp://ledger@127.0.0.1:{broker.port}/{vhost}?password_file={file}"


@pytest.mark.parametrize("place", ["file", "environment", "text"])
def test_a_password_is_shown_nowhere(forkd: Installed, url: str, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    forkd.write("ledger.py", SERVER)
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
    forkd.write("ledger.py", SERVER)
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
    forkd.write("ledger.py", SERVER)
    forkd.configure({"ledger": {"server": "ledger:Ledger", "topic": "ledger", "transport": later.url()}})
    forkd.start()
    later.kill()
    until(lambda: "the connection to the broker was lost" in forkd.log.read_text(), 30, "the worker notices")
    assert forkd.run("stop", "--wait", timeout=20).returncode == 0
    assert forkd.wait() == 0
