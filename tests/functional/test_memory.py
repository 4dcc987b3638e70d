"""Workers that the kernel kills for want of memory, in a real control group with a limit of its own."""

from __future__ import annotations

import os
import pathlib
import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.installed import Installed

LIMIT = 400 << 20
EATER = """
import forkd

class Eater(forkd.Server):
    def reset(self):
        self.eaten = [bytearray(8 << 20) for _ in range(1000)]
"""


@pytest.fixture
def group() -> Iterator[pathlib.Path]:
    """A control group in which there is so much memory and no more."""
    if os.geteuid() != 0:
        pytest.skip("a control group of its own takes root")
    root, limit = pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    if not root.is_dir():
        root, limit = pathlib.Path("/sys/fs/cgroup"), "memory.max"
        (root / "cgroup.subtree_control").write_text("+memory")
    folder = root / f"forkd-test-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    (folder / limit).write_text(str(LIMIT))
    swap = folder / "memory.swap.max"
    if swap.exists():
        swap.write_text("0")
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text(), what="the end of its processes")
    folder.rmdir()


def reasons(forkd: Installed) -> set[str]:
    """Return why the last worker ended."""
    return {worker["last_exit"]["reason"] for worker in forkd.service("eater")["workers"] if worker["last_exit"]}


def test_the_want_of_memory_is_told_from_a_kill(group: pathlib.Path, forkd: Installed) -> None:
    forkd.write("eater.py", EATER)
    forkd.configure({"eater": {"server": "eater:Eater", "concurrency": "threads"}})
    forkd.start(under=("sh", "-ec", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"))
    for signum, why in (
        (signal.SIGKILL, "killed by operator or kernel"),
        (signal.SIGHUP, "killed by the kernel, which was out of memory"),
        (signal.SIGKILL, "killed by operator or kernel"),
    ):
        (worker,) = until(lambda: forkd.workers("eater"), 30.0, "a worker")
        os.kill(worker, signum)
        until(lambda why=why: reasons(forkd) == {why}, 30.0, why)  # type: ignore[misc]
        until(lambda worker=worker: forkd.workers("eater") not in ([], [worker]), 30.0, "a replacement")  # type: ignore[misc]
