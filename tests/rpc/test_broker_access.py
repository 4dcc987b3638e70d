"""Who may come to a broker, by which password or certificate, over which wire; and that nobody is shown either."""

from __future__ import annotations

import pytest

from forkd import Service, rpc
from forkd.errors import ForkdError
from tests.rpc.conftest import HERE

PASSWORD = "hunter2/@:?#"


@pytest.fixture
def vhost(broker):
    """Return a virtual host in which the user `billing` has the rights that the docs ask for, and no others."""
    vhost = broker.vhost()
    broker.user("billing", PASSWORD)
    broker.permit("billing", vhost, "^forkd.*", "^(forkd.*|amq[.]default)$", "^forkd.*")
    return vhost


def test_a_password_from_a_file_and_no_more_rights_than_are_needed(remote, broker, vhost, tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    remote.transport = f"amqp://billing@127.0.0.1:{broker.port}/{vhost}?password_file={file}"
    worker, client = remote.worker(), remote.client()
    assert client.call("who") == worker.pid
    assert list(client.fanout("who").values()) == [worker.pid]
    assert client.prepare(worker=0).call("who") == worker.pid


def test_a_new_password_is_read_when_it_is_needed(remote, broker, vhost, tmp_path):
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    remote.transport = f"amqp://billing@127.0.0.1:{broker.port}/{vhost}?password_file={file}"
    worker, client = remote.worker(), remote.client()
    assert client.call("who") == worker.pid
    broker.user("billing", "new")
    file.write_text("new")
    broker.cut(f"{HERE}/probe/0")
    remote.await_workers(1, transport=broker.url(vhost))
    assert remote.client().call("who") == worker.pid


def test_a_wrong_password_is_told_at_once_and_not_shown(broker, vhost):
    url = f"amqp://billing:wrong@127.0.0.1:{broker.port}/{vhost}"
    with pytest.raises(rpc.BrokerUnavailable, match="ACCESS_REFUSED") as caught:
        rpc.Client("probe", url).call("add", a=1)
    assert "wrong" not in str(caught.value)
    with pytest.raises(ForkdError, match=r"probe: .*ACCESS_REFUSED"):
        Service(rpc.Server("probe", url), concurrency="threads").start()
    with pytest.raises(rpc.BrokerUnavailable, match="NOT_ALLOWED - vhost nowhere not found"):
        rpc.Client("probe", broker.url("nowhere")).call("add", a=1)


def test_a_password_file_that_is_not_there_is_told(broker):
    url = f"amqp://billing@127.0.0.1:{broker.port}/?password_file=/nowhere/password"
    with pytest.raises(rpc.BrokerUnavailable, match="password_file: /nowhere/password: cannot read: no such file"):
        rpc.Client("probe", url).call("add", a=1)


def test_rights_that_are_missing_are_told(broker, vhost):
    broker.permit("billing", vhost, "^$", "^$", "^$")
    url = f"amqp://billing:hunter2%2F%40%3A%3F%23@127.0.0.1:{broker.port}/{vhost}"
    with pytest.raises(rpc.BrokerUnavailable, match="ACCESS_REFUSED"):
        rpc.Client("probe", url).call("add", a=1)
    with pytest.raises(ForkdError, match="ACCESS_REFUSED"):
        Service(rpc.Server("probe", url), concurrency="threads").start()


@pytest.fixture
def shown(authority):
    """Return the options that show a certificate of ours and trust the broker's."""
    pair = authority.issue("caller")
    return f"ca={authority.certfile}&cert={pair.certfile}&key={pair.keyfile}"


def test_calls_over_tls(remote, broker, callers, shown):
    remote.transport = f"amqps://guest:guest@localhost:{broker.tls_port}/{broker.vhost()}?{shown}"
    worker, client = remote.worker(), remote.client()
    assert client.call("who") == worker.pid
    value = "x" * 4_000_000
    assert all(each == value for each in callers.map(lambda _: client.call("echo", value=value), range(8)))
    assert all(callers.map(lambda mine: client.call("echo", value=mine) == mine, range(400)))
    held = callers.submit(client.call, "hold", name="a")
    worker.expect("began a")
    assert list(client.fanout("who").values()) == [worker.pid]
    worker.order("release")
    assert held.result(30) == "a"
    worker.stop()


def test_a_certificate_says_who_we_are(remote, broker, shown):
    vhost = broker.vhost()
    broker.user("caller", "")
    broker.permit("caller", vhost)
    remote.transport = f"amqps://localhost:{broker.tls_port}/{vhost}?{shown}"
    assert remote.client(timeout=20)
    assert remote.worker().pid == remote.client().call("who")


@pytest.mark.parametrize(
    ("host", "trusts", "why"),
    [
        ("localhost", False, "self-signed certificate in certificate chain"),
        ("127.1", True, "Hostname mismatch, certificate is not valid for '127.1'."),
    ],
)
def test_a_broker_that_is_not_to_be_trusted(broker, authority, host, trusts, why):
    options = f"?ca={authority.certfile}" if trusts else ""
    with pytest.raises(rpc.BrokerUnavailable) as caught:
        rpc.Client("probe", f"amqps://guest:guest@{host}:{broker.tls_port}/{options}").call("add", a=1)
    assert str(caught.value) == f"probe: {host}:{broker.tls_port}: its certificate is not to be trusted: {why}"


def test_a_broker_that_wants_a_certificate_of_ours(broker, authority):
    url = f"amqps://guest:guest@localhost:{broker.tls_port}/?ca={authority.certfile}"
    with pytest.raises(rpc.BrokerUnavailable):
        rpc.Client("probe", url, timeout=2).call("add", a=1)


def test_files_that_are_not_there_are_told(broker):
    url = f"amqps://guest:guest@localhost:{broker.tls_port}/?ca=/nowhere/ca.pem"
    with pytest.raises(rpc.BrokerUnavailable, match=r"/nowhere/ca\.pem: cannot read: No such file"):
        rpc.Client("probe", url).call("add", a=1)
