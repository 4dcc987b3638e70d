"""Work done as another user, in a fork of the test's own process."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_user(work: Callable[[], Any], uid: int, gid: int = 65534, groups: tuple[int, ...] = ()) -> Any:
    """Return what `work` returns, or the exception's class and text, as JSON has them."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            try:
                said = work()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the test is told
                said = [type(error).__name__, str(error)]
            os.write(writing, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return json.loads(data)
