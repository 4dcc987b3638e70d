"""What a service's processes may take of the machine: the zygote and the workers have it, or there are none."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from forkd import bounds, process
from forkd.core.events import Exited
from forkd.core.spec import UNLIMITED, ServiceSpec
from forkd.errors import ForkdError

SAY = """
    import resource
    def have(when):
        say(when, *(resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "CORE", "CPU")))
        adjusted = open("/proc/self/oom_score_adj").read().strip()
        say(when, os.getpriority(os.PRIO_PROCESS, 0), adjusted, os.sched_getaffinity(0))
    have("imported")
    class S(forkd.Server):
        def start(self):
            have("started")
"""


def test_zygote_and_workers_are_bounded_alike(yard):
    processor = max(os.sched_getaffinity(0))
    limits = {"nofile": 200, "core": 0, "cpu": 1000}
    spec = yard.spec(SAY, limits=limits, nice=5, oom_score_adj=500, cpu_affinity=(processor,))
    zygote = yard.zygote(spec)
    expected = ["(200, 200) (0, 0) (1000, 1000)", f"5 500 {{{processor}}}"]
    assert [yard.line(), yard.line()] == [f"imported {line}" for line in expected]
    for slot in range(2):  # a spare that was forked ahead, too
        yard.worker(zygote, slot)
        assert [yard.line(), yard.line()] == [f"started {line}" for line in expected]
    assert resource.prlimit(yard.pid(zygote), resource.RLIMIT_NOFILE) == (200, 200)


def test_launcher_is_not_bounded(yard):
    before = (resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))
    yard.zygote(yard.spec("class S(forkd.Server): pass", limits={"nofile": 100}, nice=7))
    now = (resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))
    assert now == before


def test_nice_is_no_addition(yard):
    source = """
        say(os.getpriority(os.PRIO_PROCESS, 0))
        class S(forkd.Server): pass
    """
    yard.zygote(yard.spec(source, nice=0))
    assert yard.line() == "0"


def test_limit_that_nobody_may_set_is_told(yard):
    beyond = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    zygote = yard.start_zygote(yard.spec(SAY, limits={"nofile": beyond}))
    yard.until(Exited, zygote)
    assert yard.of(zygote)[1].error == (
        f"cannot start the zygote: limits.nofile: cannot be {beyond}: the hard limit is {hard}, "
        "and this process may not raise it"
    )


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"nice": -20}, "nice: cannot be -20: permission denied"),
        ({"oom_score_adj": -1000}, "oom_score_adj: cannot be -1000: permission denied"),
        ({"cpu_affinity": (8191,)}, "cpu_affinity: cannot be [8191]: invalid argument"),
        ({"limits": {"core": 6}}, "limits.core: cannot be 6: the hard limit is 5, and this process may not raise it"),
        ({"limits": {"core": UNLIMITED}}, "limits.core: cannot be unlimited: the hard limit is 5, and this process may not raise it"),
    ],
)  # fmt: skip
def test_what_a_user_without_rights_asks_for_is_told(keys, error):
    def child() -> int:
        resource.setrlimit(resource.RLIMIT_CORE, (5, 5))
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        if os.geteuid() == 0:
            process.become(process.account("nobody", None))
        with pytest.raises(ForkdError) as caught:
            bounds.impose(ServiceSpec("shop", "app:S", **keys))
        assert str(caught.value) == error
        return 0

    pid = process.fork(child, lambda: None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
