"""The key `lease`: what a URL may say, what is refused and told of it, and that its password is shown nowhere."""

from __future__ import annotations

import sys

import pytest

from forkd import Server, Service, lease, periodic_task
from forkd.config.decode import config_from, config_to
from forkd.config.load import load
from forkd.errors import ForkdError
from forkd.lease.address import Address, parse, rebased
from forkd.lease.backend import Unreachable
from forkd.lease.contact import opened

SERVICE = "services: {shop: {server: 'a:B'}, web: {server: wsgi, app: 'a:b', bind: '127.0.0.1:80'}}\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://127.0.0.1:6379/0", Address("redis", "redis://127.0.0.1:6379/0", 10.0, None, None)),
        ("rediss://cache/1?ttl=1500ms", Address("redis", "rediss://cache/1", 1.5, None, None)),
        ("redis://:p%2Fw@[::1]:6379", Address("redis", "redis://[::1]:6379", 10.0, "p/w", None)),
        ("redis://me:pw@cache?ttl=1m&ssl_cert_reqs=none", Address("redis", "redis://me@cache?ssl_cert_reqs=none", 60.0, "pw", None)),
        ("postgresql://me@db/leases?password_file=/run/pw", Address("postgresql", "postgresql://me@db/leases", 10.0, None, "/run/pw")),
        ("postgres://me:@db:5432,db2:5433/x", Address("postgresql", "postgres://me@db:5432,db2:5433/x", 10.0, "", None)),
        ("postgresql:///x?host=/run/postgresql&ttl=2", Address("postgresql", "postgresql:///x?host=%2Frun%2Fpostgresql", 2.0, None, None)),
        ("postgresql://me@/x?host=/run", Address("postgresql", "postgresql://me@/x?host=%2Frun", 10.0, None, None)),
    ],
)  # fmt: skip
def test_what_a_url_says(text, address):
    found = parse(text)
    assert tuple(found) == tuple(address)
    assert "pw" not in repr(found).replace("/run/pw", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zookeeper://hunter2@zk", "expected redis://HOST:PORT/DATABASE or postgresql://USER@HOST/DATABASE"),
        ("redis://:hunter2@", "expected a host"),
        ("redis://cache/zero", "expected a host, and the number of a database"),
        ("redis://:hunter2@cache:port", "expected redis://"),
        ("redis://:hunter2@[::1", "expected redis://"),
        ("redis://cache/\n", "expected redis://"),
        ("redis://:hunter2@cache/hunter2", "expected a host, and the number of a database"),
        ("redis://:hunter2@cache?ttl=0.5s", "ttl: expected a duration of 1s to 1h, such as ttl=10s"),
        ("redis://:hunter2@cache?ttl=2h", "ttl: expected"),
        ("redis://:hunter2@cache?ttl=soon", "ttl: expected"),
        ("redis://:hunter2@cache?password_file=/x", "expected a password or a password_file, got both"),
        ("redis://cache?password_file=", "password_file: expected a path"),
        ("redis://hunter2" + "x" * 2000, "expected at most 2000 characters"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert str(caught.value).startswith(said)
    assert "hunter2" not in str(caught.value)


def test_a_password_file_starts_at_the_folder_of_the_file_that_names_it():
    assert rebased("redis://cache/0?password_file=pw&ttl=5s", "/etc/forkd") == (
        "redis://cache/0?password_file=%2Fetc%2Fforkd%2Fpw&ttl=5s"
    )
    assert rebased("redis://cache/0", "/etc/forkd") == "redis://cache/0"


def test_a_password_file_is_read_anew_each_time(tmp_path):
    file = tmp_path / "pw"
    address = parse(f"redis://cache?password_file={file}")
    with pytest.raises(ForkdError, match=r"password_file .*/pw: cannot read: no such file or directory"):
        address.secret()
    file.write_text("one\n")
    assert address.secret() == "one"
    file.write_text("two")
    assert address.secret() == "two"


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_a_driver_that_is_not_there(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, f"forkd.lease.{kind}", None)
    with pytest.raises(ForkdError, match=rf"lease: {kind}://x/0 needs a driver .*: pip install 'forkd\[{kind}\]'"):
        opened(parse(f"{kind}://:hunter2@x/0"), 1.0)


@pytest.mark.parametrize("query", ["ttk=10s", "max_connections=many", "ssl_cert_reqs=perhaps"])
def test_what_the_driver_does_not_take_is_told_at_once(query):
    with pytest.raises(
        ForkdError,
        match=r"lease: rediss://x/0 has an option that the driver does not take, beside forkd's own ttl and password_file: ",
    ):
        opened(parse(f"rediss://:hunter2@x/0?{query}"), 1.0)


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_a_name_that_no_host_can_have_is_an_outage(kind):
    with pytest.raises(Unreachable):
        opened(parse(f"{kind}://{'x' * 70}/0"), 1.0).look("a.b", begin=True)


# --- in services.yaml -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["tll=5s", "socket_timeout=soon"])
def test_an_option_that_the_driver_does_not_take_is_told_when_it_is_loaded(option):
    with pytest.raises(ForkdError, match=f"lease: redis://cache/0 has an option .*{option.partition('=')[0]}"):
        opened(parse(f"redis://cache/0?{option}&password=hunter2"), 1.0)


def test_it_reaches_the_services_that_may_have_tasks(tmp_path):
    file = tmp_path / "services.yaml"
    file.write_text(SERVICE + "lease: redis://:${PW}@cache/0?password_file=pw\n".replace("?password_file=pw", ""))
    config = load(str(file), {"PW": "hunter2"}).config
    assert {spec.name: spec.lease for spec in config.services} == {"shop": "redis://:hunter2@cache/0", "web": None}
    assert config_from(config_to(config)) == config
    file.write_text(SERVICE)
    assert [spec.lease for spec in load(str(file), {}).config.services] == [None, None]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[redis://hunter2]", "services.yaml:2:8: lease: expected redis://HOST:PORT/DATABASE or postgresql://USER@HOST/DATABASE, got a list"),
        ("redis://:hunter2@cache?ttl=1", ""),
        ("redis://:hunter2@cache?ttl=x", "services.yaml:2:8: lease: ttl: expected a duration of 1s to 1h, such as ttl=10s"),
        ("redis://:${PW}@", "services.yaml:2:8: lease: expected a host, and the number of a database, as in redis://127.0.0.1:6379/0"),
        ("''", "services.yaml:2:8: lease: expected redis://HOST:PORT/DATABASE or postgresql://USER@HOST/DATABASE, got a string"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_and_no_secret(tmp_path, value, said):
    file = tmp_path / "services.yaml"
    file.write_text(f"{SERVICE}lease: {value}\n")
    loaded = load(str(file), {"PW": "hunter2"})
    problems = loaded.problems.error().problems if loaded.problems else []
    assert [line.replace(f"{tmp_path}/", "") for line in problems] == ([said] if said else [])


def test_it_is_no_key_of_a_service(tmp_path):
    file = tmp_path / "services.yaml"
    file.write_text("services: {shop: {server: 'a:B', lease: 'redis://cache'}}\n")
    assert "services.shop.lease: unknown key" in str(load(str(file), {}).problems.error())


# --- in code ----------------------------------------------------------------------------------------------------------


class Everywhere(Server):
    @periodic_task(60, scope="cluster")
    def task(self, lease: lease.Lease) -> None: ...


def test_without_one_a_task_of_the_cluster_is_not_started():
    service = Service(Everywhere(), concurrency="threads")
    with pytest.raises(ForkdError, match=r"needs to know where leases are kept: set `lease` beside `services`, as in "):
        service.start()
    service = Service(Everywhere(), concurrency="threads")
    service.lease = "redis://"
    with pytest.raises(ForkdError, match=r"lease: expected a host"):
        service.start()


@pytest.mark.parametrize("scope", ["worker", "service"])
def test_other_scopes_have_no_lease_to_give(scope):
    with pytest.raises(ValueError, match=r"task: only scope='cluster' has a lease to give"):

        class _Wrong(Server):
            @periodic_task(60, scope=scope)
            def task(self, lease: object) -> None: ...

    class Right(Server):
        @periodic_task(60, scope=scope)
        def task(self, lease: object = None) -> None: ...

    assert list(Right.periodic_tasks()) == ["task"]
