"""Workers that are replaced under remote calls, over each transport: none is lost, and none made twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.traffic import ledger

if TYPE_CHECKING:
    from tests.functional.installed import Installed


@pytest.mark.parametrize("transport", ["local", "amqp"])
def test_reloads_and_scaling_lose_no_call_and_double_none(
    forkd: Installed, concurrency: str, transport: str, request: pytest.FixtureRequest
) -> None:
    callers = ledger.begin(forkd, _address(transport, request), concurrency)
    assert (forkd.runtime_dir / "rpc").exists() == (transport == "local")  # no sockets for who needs none
    with callers:
        for _ in range(3):
            assert forkd.run("reload", "--wait").returncode == 0
            callers.go_on()
        assert forkd.run("scale", "ledger", "1").returncode == 0
        callers.go_on()
    callers.check(forkd)


def _address(transport: str, request: pytest.FixtureRequest) -> str:
    if transport == "local":
        return transport
    broker = request.getfixturevalue("broker")  # asked for only here: the other transport needs none
    return str(broker.url(broker.vhost()))
