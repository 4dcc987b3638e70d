"""Who may call on this host: other users really call, and what they see says why they may not."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from forkd import rpc
from forkd.core.spec import ServiceSpec
from forkd.errors import ForkdError
from forkd.kernel.listeners import Listeners
from forkd.rpc.transports.local.peers import Peers
from tests.becoming import as_user, needs_root
from tests.rpc.conftest import Host

pytestmark = needs_root

CALLER, GROUP = 4242, 4343
REFUSED = f"uid {CALLER} may not call: only root, uid 0, which the service runs as, {{}} may"


@pytest.fixture(params=["threads", "eventlet"])
def host(request, short_tmp):
    short_tmp.chmod(0o711)
    host = Host(short_tmp / "run", request.param)
    host.runtime.mkdir(mode=0o700)
    yield host
    host.end()


def serve(host, *allow):
    """Start a worker that makes its socket itself."""
    return host.start({"concurrency": host.concurrency, "topic": "probe", "allow": allow})


def who(host, topic="probe"):
    def work():
        with rpc.Client(topic, runtime_dir=str(host.runtime), timeout=20) as client:
            return client.call("who")

    return work


@pytest.mark.parametrize(
    ("allow", "gid", "groups"),
    [
        ([f"uid:{CALLER}"], 65534, ()),
        ([f"gid:{GROUP}"], GROUP, ()),
        ([f"gid:{GROUP}"], 65534, (7, GROUP)),
        (["uid:1", "user:nobody", "gid:1", f"gid:{GROUP}"], 65534, (*range(1000, 1255), GROUP)),
    ],
    ids=["user", "primary group", "other group", "256 groups"],
)
def test_whom_it_names_may_call(host, allow, gid, groups):
    worker = serve(host, *allow)
    assert as_user(who(host), CALLER, gid, groups) == worker.pid
    assert who(host)() == worker.pid  # root


def test_names_are_looked_up(host):
    worker = serve(host, "user:nobody", "group:daemon")
    assert as_user(who(host), 65534) == worker.pid
    assert as_user(who(host), CALLER, 1) == worker.pid


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ((), REFUSED.format(f"uid:1, gid:{GROUP}")),
        ((GROUP + 1,), REFUSED.format(f"uid:1, gid:{GROUP}")),
        (tuple(range(1000, 1257)), f"uid {CALLER} may not call: it is in more than 256 groups, too many to look at"),
    ],
)
def test_whom_it_does_not_name_is_told_why(host, groups, why):
    serve(host, "uid:1", f"gid:{GROUP}")
    kind, text = as_user(who(host), CALLER, 65534, groups)
    assert kind == "NotAllowed"
    assert text == f"{host.runtime}/rpc/probe/0.sock: {why}"


def test_without_it_nobody_else_gets_near(host):
    serve(host)
    kind, text = as_user(who(host), CALLER)
    assert kind == "NotAllowed"
    assert "may not be read by this user" in text
    host.runtime.chmod(0o711)
    kind, text = as_user(who(host), CALLER)
    assert (kind, text) == ("NotAllowed", f"probe: this user may not connect to {host.runtime}/rpc/probe/0.sock")


def test_nothing_but_the_topic_opens_up(host):
    for name in ("forkd.lock", "other"):
        (host.runtime / name).write_text("")
        (host.runtime / name).chmod(0o600)
    serve(host, f"uid:{CALLER}")
    host.start({"concurrency": host.concurrency, "topic": "closed"})

    def look():
        assert os.listdir(host.runtime / "rpc/probe") == ["0.sock"]
        for use in (lambda: os.listdir(host.runtime), (host.runtime / "forkd.lock").read_text):
            with pytest.raises(PermissionError):
                use()
        return "done"

    assert as_user(look, CALLER) == "done"
    assert as_user(who(host, "closed"), CALLER)[0] == "NotAllowed"


def test_the_user_that_a_service_runs_as_may_call():
    def work():
        one, other = socket.socketpair()
        with one, other:
            return Peers([]).refusal(one)

    assert as_user(work, CALLER) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 500)
        peers = Peers([])
    assert as_user(lambda: _refusal(peers), 500) is None
    assert (
        as_user(lambda: _refusal(peers), 501)
        == "uid 501 may not call: only root, uid 500, which the service runs as may"
    )
    assert _refusal(peers) is None  # root


def _refusal(peers):
    one, other = socket.socketpair()
    with one, other:
        return peers.refusal(one)


@pytest.mark.parametrize(
    "entry", ["root", "uid:", "uid:x", "uid:-1", "user:", "user:nobody-such", "group:nobody-such", "pid:1", ""]
)
def test_what_names_nobody_is_refused(entry):
    with pytest.raises(ForkdError):
        Peers([entry])


def test_a_flood_of_refused_callers_is_logged_once(host):
    worker = serve(host, "uid:1")

    def knock():
        for _ in range(50):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(20)
                sock.connect(f"{host.runtime}/rpc/probe/0.sock")
                while sock.recv(1000):
                    pass
        return "done"

    assert as_user(knock, CALLER) == "done"
    assert worker.errors().count("a caller was refused") == 1


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def listeners(short_tmp):
    run = short_tmp / "run"
    run.mkdir(mode=0o700)
    listeners = Listeners(str(run))
    yield listeners
    listeners.close()


def test_the_launcher_s_socket_has_what_a_generation_wants(listeners):
    closed = ServiceSpec("a", "a:B", topic="t")
    opened = closed._replace(allow=("uid:1",))
    path = f"{listeners.runtime_dir}/rpc/t/0.sock"
    found = []
    for generation, spec in enumerate((closed, opened, closed)):  # each is ready before the one before it is released
        listeners.acquire_slot(spec, generation, 0)
        found.append(mode(path))
        if generation:
            listeners.release("a", generation - 1)
            found.append(mode(path))
    assert found == [0o600, 0o666, 0o666, 0o666, 0o600]


def test_the_launcher_opens_the_way_to_a_topic_where_it_is_needed(listeners):
    run = listeners.runtime_dir
    before = os.umask(0o077)
    try:
        listeners.acquire_slot(ServiceSpec("a", "a:B", topic="a"), 1, 0)
        assert [mode(path) for path in (run, f"{run}/rpc", f"{run}/rpc/a")] == [0o700] * 3
        listeners.acquire_slot(ServiceSpec("b", "a:B", topic="b", allow=("gid:1",)), 1, 0)
    finally:
        os.umask(before)
    assert [mode(path) for path in (run, f"{run}/rpc", f"{run}/rpc/a", f"{run}/rpc/b")] == [0o711, 0o711, 0o700, 0o755]
    assert [mode(f"{run}/rpc/{topic}/0.sock") for topic in "ab"] == [0o600, 0o666]
