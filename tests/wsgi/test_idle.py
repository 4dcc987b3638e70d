"""Ten thousand clients that keep their connections and say nothing."""

from __future__ import annotations

import itertools
import time

from tests.wsgi.client import request
from tests.wsgi.crowd import BOUND, regular
from tests.wsgi.swarm import Swarm

MANY, AT_ONCE = 10_000, 1000
KIB = 1024
LONG = 600.0  # seconds; never waited for


def test_ten_thousand_idle_connections(serve):
    """They cost next to nothing, and all end at the same instant without holding up anybody."""
    served = serve(nofile=MANY + 1000, options={"keepalive_timeout": LONG, "header_timeout": LONG}, stop_timeout=8)
    served.get("/hello")
    before = served.memory()
    with Swarm(served.address) as swarm, served.client() as clock:
        with regular(served):
            for _ in range(MANY // AT_ONCE):
                swarm.say(request("/hello"), swarm.grow(AT_ONCE))
                swarm.until(lambda: all(member.got for member in swarm.members[-AT_ONCE:]), "an answer for each")
        assert (served.memory() - before) / MANY < 3 * KIB
        assert served.descriptors() > MANY
        began, used = time.monotonic(), served.cpu_seconds()
        swarm.until(lambda: time.monotonic() > began + 1, "a second")
        assert served.cpu_seconds() - used < 0.1 * (time.monotonic() - began)
        clock.send(request("/clock/crowd"))
        assert served.get("/hello") == b"Hello, world!"
        served.drain_all()  # until half of its time has passed they may stay
        swarm.until(lambda: all(member.ended for member in swarm.members), "their ends")
        assert {(member.answers(), member.ended) for member in swarm.members} == {(1, "orderly")}
        served.open_gate("crowd")
        times = [float(line) for line in clock.answer().body.split()]
        assert max(after - before for before, after in itertools.pairwise(times)) < BOUND / 5
    served.stopped()
