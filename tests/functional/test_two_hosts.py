"""Remote calls between two hosts, each with a launcher and a network of its own, and RabbitMQ on a third."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker import Broker
from tests.functional.installed import Installed
from tests.hosts import MIDDLE, Network
from tests.waiting import until

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

LEDGER = """
import os, socket, time
from forkd import rpc

class Ledger(rpc.Server):
    def book(self, key):
        return self._note(key)

    @rpc.idempotent
    def book_again(self, key):
        return self._note(key)

    def book_slowly(self, key):
        self._note(key)
        time.sleep(1.5)  # some are at this when their host is cut off
        return socket.gethostname()

    def _note(self, key):
        with open("booked", "a") as file:
            file.write(key + "\\n")  # in one piece
        return socket.gethostname()
"""

# Books as fast as it can, in four threads each way, until its input ends; a line for each call that is over.
CALLER = """
import itertools, socket, sys, threading
from forkd import rpc

client = rpc.Client("ledger", sys.argv[1], timeout=20)
over, pen, keys = threading.Event(), threading.Lock(), itertools.count()

def work(method):
    while not over.is_set():
        key = f"{socket.gethostname()}-{method}-{next(keys)}"
        try:
            said = client.call(method, key=key)
        except rpc.RpcError as error:
            said = type(error).__name__
        with pen:
            print(key, said, flush=True)

threads = [threading.Thread(target=work, args=(method,)) for method in ("book", "book_again", "book_slowly") for _ in range(4)]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
"""

FANOUT = """
import json, sys
from forkd import rpc
found = rpc.Client("ledger", sys.argv[1], timeout=20).fanout("book_again", key="fanout")
print(json.dumps({worker: str(answer) for worker, answer in found.items()}))
"""


class Site:
    """A host with a launcher that serves the ledger, and a process that calls it."""

    def __init__(self, host: Any, folder: pathlib.Path, url: str, concurrency: str) -> None:
        folder.mkdir()
        self.host = host
        self.url = url
        self.forkd = Installed(folder)
        self.forkd.write("ledger.py", LEDGER)
        service = {
            "server": "ledger:Ledger",
            "topic": "ledger",
            "transport": url,
            "workers": 2,
            "concurrency": concurrency,
        }
        self.forkd.configure({"ledger": service})
        self.forkd.start(under=host.under)
        self.said = folder / "said"
        self._caller: subprocess.Popen | None = None

    def call(self) -> None:
        with self.said.open("wb") as said:
            command = [*self.host.under, sys.executable, "-c", CALLER, self.url]
            self._caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said)

    def outcomes(self) -> dict[str, str]:
        """Return what each call that is over came to: the name of who booked it, or of an error."""
        lines = self.said.read_text().rpartition("\n")[0].splitlines() if self.said.exists() else []
        return dict(line.split() for line in lines)

    def booked(self) -> list[str]:
        """Return the keys that were booked here."""
        return (self.forkd.folder / "booked").read_text().split()

    def fanout(self) -> dict[str, str]:
        done = subprocess.run(
            [*self.host.under, sys.executable, "-c", FANOUT, self.url], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def goes_on(self, by: str, count: int = 20) -> None:
        """Wait until calls from here have been booked at a host."""
        before = self._answered(by)
        until(lambda: self._answered(by) >= before + count, 60, f"{self.host.name} calls {by}")

    def finish(self) -> None:
        assert self._caller is not None
        self._caller.communicate(timeout=60)
        assert self._caller.returncode == 0

    def close(self) -> None:
        if self._caller is not None:
            self._caller.kill()
            self._caller.communicate()
        self.forkd.close()

    def _answered(self, by: str) -> int:
        return sum(said == by for said in self.outcomes().values())


@pytest.fixture(scope="module")
def joined() -> Iterator[tuple[Network, Broker]]:
    """Yield two hosts and the broker between them."""
    with Network("alpha", "beta") as network, Broker(MIDDLE, network.middle.under) as broker:
        yield network, broker


@pytest.fixture
def sites(
    joined: tuple[Network, Broker], short_tmp: pathlib.Path, concurrency: str
) -> Iterator[tuple[Network, list[Site]]]:
    network, broker = joined
    url = broker.url(broker.vhost(), "?heartbeat=1")
    sites = []
    with contextlib.ExitStack() as stack:
        for host in network.hosts:
            sites.append(Site(host, short_tmp / host.name, url, concurrency))
            stack.callback(sites[-1].close)
        yield network, sites


def test_a_host_that_is_cut_off_loses_only_what_was_in_flight_there(sites: tuple[Network, list[Site]]) -> None:
    network, (alpha, beta) = sites
    everyone = [f"{name}/ledger/{slot}" for name in ("alpha", "beta") for slot in range(2)]
    assert sorted(worker.rpartition("/")[0] for worker in alpha.fanout()) == everyone
    for site in (alpha, beta):
        site.call()
    for site in (alpha, beta):
        site.goes_on("alpha")
        site.goes_on("beta")

    network.cut(beta.host)
    until(lambda: "WorkerLost" in beta.outcomes().values(), 60, "beta's caller has noticed")
    alpha.goes_on("alpha", 200)
    assert sorted(worker.rpartition("/")[0] for worker in alpha.fanout()) == everyone[:2]

    network.heal(beta.host)
    for site in (alpha, beta):
        site.goes_on("alpha")
        site.goes_on("beta")
    for site in (alpha, beta):
        site.finish()

    booked = collections.Counter(alpha.booked() + beta.booked())
    assert sorted(worker.rpartition("/")[0] for worker in beta.fanout()) == everyone
    outcomes = alpha.outcomes() | beta.outcomes()
    lost = {key for key, said in outcomes.items() if said not in ("alpha", "beta")}
    assert {outcomes[key] for key in lost} <= {"WorkerLost", "BrokerUnavailable"}
    # Each caller has twelve calls at a time: those at the cut, and beta's once more if it found no broker in time.
    assert len([key for key in lost if key.startswith("alpha")]) <= 12
    assert len([key for key in lost if key.startswith("beta")]) <= 24
    assert not [key for key in outcomes if key not in lost and not booked[key]]
    assert not [key for key, times in booked.items() if times > 1 and "-book_again-" not in key and key != "fanout"]
