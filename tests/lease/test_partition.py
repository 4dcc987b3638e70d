"""A host that is cut off from the backend ends its run before another host begins one, and takes part again later."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import Installed
from tests.hosts import MIDDLE, Host, Network
from tests.lease.backends import KINDS
from tests.lease.runs import SERVER, Log, Seen
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

TTL, SLACK = 1.0, 2.0
ROUND_TRIP = 0.2  # seconds that a question may take; so well does a worker know the backend's clock
RECORD = """
import json, sys
from forkd import lease
print(json.dumps(lease.runs(sys.argv[1], "web", "task", 1000)))
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network("a", "b") as network:
        yield network


def record(network: Network, url: str) -> dict[int, dict[str, Any]]:
    """Return the backend's record of runs, by token."""
    found = json.loads(network.middle.run(sys.executable, "-c", RECORD, url))
    keys = ("token", "holder", "started", "ended", "outcome")
    return {each[0]: dict(zip(keys, each, strict=True)) for each in found}


@pytest.mark.parametrize(
    ("kind", "task", "near"),
    [
        ("redis", ("eventlet", "well"), False),
        ("redis", ("threads", "stubborn"), True),
        ("postgresql", ("threads", "stubborn"), False),
        ("postgresql", ("eventlet", "well"), True),
    ],
    ids=["redis, green, far", "redis, native, near", "postgresql, native, far", "postgresql, green, near"],
)
def test_a_host_that_is_cut_off(network, short_tmp, kind, task, near):
    concurrency, manner = task
    short_tmp.chmod(0o755)
    log = Log(short_tmp / "runs")
    (short_tmp / "server").mkdir()
    server = KINDS[kind](short_tmp / "server", MIDDLE, network.middle.under)
    sites = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        for host in network.hosts:
            (short_tmp / host.name).mkdir()
            sites[host.name] = forkd = Installed(short_tmp / host.name)
            stack.callback(forkd.close)
            forkd.write("busy.py", SERVER)
            args = {"log": str(log.path), "beats": 200, "manner": manner}
            service = {"server": "busy:Busy", "workers": 2, "concurrency": concurrency, "args": args}
            forkd.configure({"web": {**service, "restart": {"delay": "10ms"}}}, lease=server.url)
            forkd.start(under=host.under)
        for victim, other in itertools.permutations(network.hosts):
            with log.short_on(other.name):
                cut_off(network, log, sites[victim.name], victim, near)
        runs = log.judge()
        check_record(record(network, server.url), runs, least=len(sites))


def cut_off(network: Network, log: Log, forkd: Installed, victim: Host, near: bool) -> None:
    """Cut off a host in a run that has just begun, see the other one take over, and heal it."""
    run = log.await_run(lambda run: run.host == victim.name and 0 < run.last - run.begun < 0.4 and not run.ended, 30)
    network.cut(victim, near=near)
    cut = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        after = log.await_run(lambda one: one.host != victim.name and one.token > run.token)
        ended = log.run(run.token)
        assert not ended.ended
        assert ended.last < after.begun < cut + TTL + SLACK
        until(lambda: "so tasks of the cluster stand by: " in forkd.log.read_text())
        log.await_run(lambda one: one.host != victim.name and one.token > after.token + 3)
    finally:
        network.heal(victim, near=near)
    log.await_run(lambda one: one.host == victim.name, 30)


def check_record(record: dict[int, dict[str, Any]], runs: list[Seen], least: int) -> None:
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
    assert sum(one["outcome"] in ("lost", "expired") for one in every) >= least, "each cut fell into a run"
