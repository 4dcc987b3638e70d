"""The private listener of a worker with a healthcheck: its own, for the launcher's user alone, and gone with it."""

from __future__ import annotations

import http.client
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from forkd.core.events import Exited, Failed
from forkd.core.spec import HealthcheckSpec
from tests.kernel.yard import KILL, fds

if TYPE_CHECKING:
    from forkd.core.spec import ServiceSpec
    from tests.kernel.yard import Yard

APP = """
    def application(environ, start_response):
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
"""


def web(yard: Yard, path: str = "/healthz", **keys: Any) -> ServiceSpec:
    check = HealthcheckSpec(path)
    return yard.spec(APP, server="wsgi", app="app:application", bind=("127.0.0.1:0",), healthcheck=check, **keys)


def ask(path: str) -> int:
    """Return the pid of the worker that answers there."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(path)
    connection.request("GET", "/healthz")
    pid = int(connection.getresponse().read())
    connection.close()
    return pid


def test_each_worker_answers_at_its_own(yard, concurrency):
    spec = web(yard, concurrency=concurrency)
    zygote = yard.zygote(spec)
    workers = [yard.worker(zygote, slot) for slot in (0, 1)]
    checks = yard.kernel.checks
    assert {id: check.spec for id, check in checks.items()} == dict.fromkeys(workers, spec.healthcheck)
    for worker in workers:
        assert ask(checks[worker].socket) == yard.pid(worker)


def test_it_is_for_our_user_alone_and_costs_no_descriptor(yard):
    zygote = yard.zygote(web(yard))
    before = fds()
    check = yard.kernel.checks[yard.worker(zygote)]
    assert stat.S_IMODE(os.stat(check.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(check.socket)).st_mode) == 0o700
    without = yard.worker(yard.zygote(web(yard, "", name="other")))
    assert without not in yard.kernel.checks
    assert fds() - before == 5  # two workers and a zygote have channels, the workers boards


def test_it_is_gone_with_its_worker(yard):
    zygote = yard.zygote(web(yard))
    first, second = (yard.worker(zygote, slot) for slot in (0, 1))
    path = yard.kernel.checks[first].socket
    yard.signal(first, KILL)
    yard.until(Exited, first)
    assert set(yard.kernel.checks) == {second}
    assert os.listdir(os.path.dirname(path)) == [f"{second}.sock"]
    yard.kernel.close()
    assert os.listdir(os.path.dirname(path)) == []


def test_what_a_killed_launcher_has_left_is_removed(yard):
    left = yard.folder / "health" / "7.sock"
    left.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(left))
    yard.kernel.move(str(yard.folder))
    assert list(left.parent.iterdir()) == []


def test_a_folder_that_is_not_the_launchers_own(yard):
    elsewhere = yard.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "7.sock").touch()
    (yard.folder / "health").symlink_to(elsewhere)
    yard.kernel.move(str(yard.folder))
    worker = yard.spawn(yard.zygote(web(yard)))
    assert yard.of(worker) == [
        Failed(worker, f"{yard.folder}/health is not the launcher's own"),
        Exited(worker, None, None),
    ]
    assert os.listdir(elsewhere) == ["7.sock"]
