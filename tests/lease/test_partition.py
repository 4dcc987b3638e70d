"""A host that is cut off from the backend ends its run before another host begins one, and takes part again later."""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import Installed
from tests.lease.backends import KINDS, USER, Postgresql, Redis
from tests.lease.network import NAMES, Network, require_namespaces, run
from tests.lease.runs import SERVER, Log, Seen
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TTL, SLACK = 1.0, 2.0
ROUND_TRIP = 0.2  # seconds that a question may take; so well does a worker know the backend's clock
RECORD = """
import json, sys
from forkd import lease
print(json.dumps(lease.runs(sys.argv[1], "web", "task", 1000)))
"""


@pytest.fixture
def network() -> Iterator[Network]:
    require_namespaces()
    network = Network()
    try:
        network.make()
        yield network
    finally:
        network.remove()


class Far:
    """Has a server run in the namespace of the backend, for all who reach it."""

    def __init__(self, kind: str, folder: Path, network: Network) -> None:
        folder.mkdir()
        self.server = KINDS[kind](folder, "0.0.0.0", network.under("backend"))
        self.network = network
        self.server.answers = self._answers  # type: ignore[method-assign]  # from here it cannot be reached
        self.server.start()

    def url(self, number: int) -> str:
        """Return `lease` of a host."""
        address, port = self.network.address(number), self.server.port
        if isinstance(self.server, Redis):
            return f"redis://{address}:{port}/0?ttl={TTL}s"
        assert isinstance(self.server, Postgresql)
        return f"postgresql://{USER}@{address}:{port}/postgres?ttl={TTL}s"

    def record(self) -> dict[int, dict[str, Any]]:
        """Return the backend's record of runs, by token."""
        found = json.loads(run(*self.network.under("a"), sys.executable, "-c", RECORD, self.url(0)))
        keys = ("token", "holder", "started", "ended", "outcome")
        return {each[0]: dict(zip(keys, each, strict=True)) for each in found}

    def _answers(self) -> bool:
        try:
            self.record()
        except AssertionError as error:
            return "does not exist" in str(error)  # the tables, which are still to be made
        return True


@pytest.mark.parametrize(
    ("kind", "task", "where"),
    [
        ("redis", ("eventlet", "well"), "far"),
        ("redis", ("threads", "stubborn"), "near"),
        ("postgresql", ("threads", "stubborn"), "far"),
        ("postgresql", ("eventlet", "well"), "near"),
    ],
    ids=["redis, green, far", "redis, native, near", "postgresql, native, far", "postgresql, green, near"],
)
def test_a_host_that_is_cut_off(network, short_tmp, kind, task, where):
    concurrency, manner = task
    short_tmp.chmod(0o755)
    log = Log(short_tmp / "runs")
    far = Far(kind, short_tmp / "server", network)
    hosts = {}
    try:
        for number, name in enumerate(NAMES):
            (short_tmp / name).mkdir()
            hosts[name] = host = Installed(short_tmp / name)
            host.write("busy.py", SERVER)
            args = {"log": str(log.path), "beats": 200, "manner": manner}
            service = {"server": "busy:Busy", "workers": 2, "concurrency": concurrency, "args": args}
            host.configure({"web": {**service, "restart": {"delay": "10ms"}}}, lease=far.url(number))
            host.start(under=network.under(name))
        victims: set[str] = set()
        while victims != set(NAMES):
            victims.add(cut_off(network, log, hosts, where))
        runs = log.judge()
        check_record(far.record(), runs)
    finally:
        for host in hosts.values():
            host.close()
        far.server.stop()


def cut_off(network: Network, log: Log, hosts: dict[str, Installed], where: str) -> str:
    """Cut off the host of a run that has just begun, see the other one take over, and heal it; return its name."""
    run = log.await_run(lambda run: 0 < run.last - run.begun < 0.4 and not run.ended, 30)
    victim = run.host
    network.cut(victim, where)
    cut = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        after = log.await_run(lambda one: one.host != victim and one.token > run.token)
        ended = log.run(run.token)
        assert not ended.ended
        assert ended.last < after.begun < cut + TTL + SLACK
        until(lambda: "so tasks of the cluster stand by: " in hosts[victim].log.read_text())
        log.short.touch()
        log.await_run(lambda one: one.host != victim and one.token > after.token + 3)
    finally:
        network.heal(victim, where)
    log.await_run(lambda one: one.host == victim, 30)
    log.short.unlink()
    return victim


def check_record(record: dict[int, dict[str, Any]], runs: list[Seen]) -> None:
    """See that the backend's record says the same as what the runs have written."""
    clock = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for seen in runs:
        noted = record[seen.token]
        assert noted["holder"].startswith(f"{seen.host}/web/")
        assert noted["started"] <= seen.begun + clock + 0.1
        if seen.ended and noted["ended"] is not None:
            assert noted["ended"] >= seen.last + clock - ROUND_TRIP
    every = [record[token] for token in sorted(record)]
    for one, after in itertools.pairwise(every):
        assert (one["ended"] or 0.0) <= after["started"] + ROUND_TRIP
    assert sum(one["outcome"] in ("lost", "expired") for one in every) >= len(NAMES), "each cut fell into a run"
