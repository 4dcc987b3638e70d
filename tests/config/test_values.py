"""What a value may look like, and what becomes of it."""

from __future__ import annotations

import json
import os
import sys

import pytest

from forkd.config.decode import config_from, config_to, spec_from, spec_to
from forkd.config.merging import share
from forkd.core.spec import AccessLogSpec, Config, HealthcheckSpec, RecycleSpec, RestartSpec, ServiceSpec, TlsSpec
from forkd.errors import ProtocolError

WSGI = "server: wsgi\napp: shop.web:application\n"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("12h", 43200), ("1.5", 1.5), ("7", 7), ('"7"', 7), ("0.5m", 30)],
)
def test_durations(service, written, seconds):
    found = service(f"stop_timeout: {written}").stop_timeout
    assert found == seconds
    assert type(found) is float


@pytest.mark.parametrize(
    ("written", "size"), [("512KiB", 524288), ("50MiB", 52428800), ("1GiB", 1 << 30), ("10", 10), ("0", 0)]
)
def test_sizes(service, written, size):
    assert service(f"{WSGI}bind: 127.0.0.1:0\nbody_limit: {written}").body_limit == size


@pytest.mark.parametrize("written", ["027", '"027"', "0o27", '"0o27"', "27", '"27"'])
def test_a_umask_is_octal_however_it_is_written(service, written):
    assert service(f"umask: {written}").umask == 0o27


def test_auto_workers_are_the_usable_processors(service):
    assert service("workers: auto").workers == len(os.sched_getaffinity(0))


def test_auto_workers_are_as_many_as_the_processors_of_the_service(service):
    first = min(os.sched_getaffinity(0))
    spec = service(f"workers: auto\ncpu_affinity: [{first}, {first}]")
    assert (spec.workers, spec.cpu_affinity) == (1, (first, first))


def test_reading_a_processor_binds_nobody(service):
    before = os.sched_getaffinity(0)
    service(f"cpu_affinity: {min(before)}")
    assert os.sched_getaffinity(0) == before


def test_limits_are_numbers_or_none(service):
    assert service("limits: {nofile: 4096, core: unlimited}").limits == {"nofile": 4096, "core": -1}


@pytest.mark.parametrize(
    ("value", "of", "number"), [(3, 1, 3), ("25%", 4, 1), ("25%", 5, 2), ("100%", 7, 7), ("1%", 3, 1), ("50%", 0, 1)]
)
def test_a_surge_in_percent_is_rounded_up(value, of, number):
    assert share(value, of) == number


def test_a_surge_in_percent_is_of_the_workers(service):
    assert service("workers: 5\nsurge: 30%").surge == 2


@pytest.mark.parametrize(
    ("lines", "threads"),
    [("", 1000), ("concurrency: threads", 32), ("threads: 7", 7), ("concurrency: threads\nthreads: 9", 9)],
)
def test_the_default_of_threads_depends_on_the_concurrency(service, lines, threads):
    assert service(lines).threads == threads


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:8080", "[::]:65535", "localhost:80", "*:80", ":80", "unix:/run/shop.sock"],
)
def test_addresses(service, address):
    assert service(f'{WSGI}bind: ["{address}"]').bind == (address,)


def test_a_list_of_one_may_be_written_as_its_item(service):
    spec = service(f"{WSGI}bind: 127.0.0.1:8080\npythonpath: /srv")
    assert spec.bind == ("127.0.0.1:8080",)
    assert spec.pythonpath == ("/srv",)


def test_relative_paths_start_at_the_file(folder, service):
    (folder.path / "code").mkdir()
    spec = service(f"{WSGI}bind: unix:run/shop.sock\ndirectory: code\npythonpath: [., ../lib]")
    assert spec.directory == f"{folder.path}/code"
    assert spec.pythonpath == (str(folder.path), f"{folder.path.parent}/lib")
    assert spec.bind == (f"unix:{folder.path}/run/shop.sock",)


def test_an_interpreter_stays_the_link_that_it_is(folder, service):
    (folder.path / "bin").mkdir()
    (folder.path / "bin" / "python").symlink_to(sys.executable)
    assert service("python: bin/python").python == f"{folder.path}/bin/python"


def test_environment_values_are_what_stands_in_the_file(service):
    environment = service('environment: {A: 1.10, B: 010, C: "true", on: x, D: 2026-01-01, E: 12:30}').environment
    assert environment == {"A": "1.10", "B": "010", "C": "true", "on": "x", "D": "2026-01-01", "E": "12:30"}


def test_arguments_keep_their_types(service):
    spec = service("args: {days: 30, rate: 0.5, on_: [true, null, 0x10], name: 2026-01-01, at: 12:30, deep: {a: [1]}}")
    assert spec.args == {
        "days": 30,
        "rate": 0.5,
        "on_": [True, None, 16],
        "name": "2026-01-01",
        "at": "12:30",
        "deep": {"a": [1]},
    }


def test_nothing_is_the_default_of_what_may_be_absent(service):
    spec = service("directory:\nuser: ~\ntopic: null")
    assert (spec.directory, spec.user, spec.topic) == (None, None, None)


@pytest.mark.parametrize("user", ["root", "0", '"0"', "12345"])
def test_users_by_name_or_number(service, user):
    assert service(f"user: {user}").user == user.strip('"')


def test_users_and_groups_that_may_call_become_numbers(service):
    spec = service("topic: t\nallow: [user:root, group:root, user:7, gid:8, uid:9]")
    assert spec.allow == ("uid:0", "gid:0", "uid:7", "gid:8", "uid:9")


def test_references_to_the_environment(service):
    spec = service(
        'workers: ${N}\ntopic: "${EMPTY:-fallback}"\nenvironment: {A: "${A:-}", B: "$$${B} $C $", N: "${N}"}',
        {"N": "3", "EMPTY": "", "B": "b"},
    )
    assert spec.workers == 3
    assert spec.topic == "fallback"
    assert spec.environment == {"A": "", "B": "$b $C $", "N": "3"}


def test_a_reference_in_quotes_stays_a_string(service):
    assert service('args:\n  a: "${N}"\n  b: ${N}', {"N": "3"}).args == {"a": "3", "b": 3}


def test_anchors_and_merge_keys(folder):
    folder.write(
        "defaults: &shared {workers: 3, topic: a}\n"
        "services:\n"
        "  a: {server: a.b:C, <<: *shared}\n"
        "  b: {<<: [{workers: 7}, *shared], topic: b, server: a.b:C}\n"
    )
    assert [(spec.workers, spec.topic) for spec in folder.load().services] == [(3, "a"), (7, "b")]


def test_defaults_hold_where_a_service_is_silent(folder):
    folder.write(
        "defaults:\n"
        "  workers: 3\n"
        "  body_limit: 1KiB\n"
        "  topic: never\n"
        "  restart: {delay: 1s, factor: 3}\n"
        "  environment: {A: a, B: b}\n"
        "  limits: {core: 0, nofile: 64}\n"
        "  secrets: {A: a}\n"
        "services:\n"
        "  web: {server: wsgi, app: 'a:b', bind: '127.0.0.1:80', environment: {B: B, C: C}, restart: {delay: 2s}}\n"
        "  own: {server: 'a:B', workers: 1, limits: {nofile: 128}, secrets: {B: /b}}\n"
    )
    web, own = folder.load().services
    assert (web.workers, web.body_limit, web.topic) == (3, 1024, None)
    assert web.environment == {"A": "a", "B": "B", "C": "C"}
    assert web.restart == RestartSpec(delay=2.0, factor=3.0)
    assert (own.workers, own.body_limit, own.topic) == (1, 0, "never")
    assert own.limits == {"core": 0, "nofile": 128}
    assert own.secrets == {"A": f"{folder.path}/a", "B": "/b"}


def test_what_already_holds_may_be_said(folder):
    folder.write("log: {level: debug, format: text}\nservices: {a: {server: 'a:B', stdout: inherit, stderr: inherit}}")
    assert folder.load().log_level == "debug"


def test_services_keep_the_order_of_the_file(folder):
    folder.write("services: {c: {server: 'a:B'}, a: {server: 'a:B'}, b: {server: 'a:B'}}")
    assert [spec.name for spec in folder.load().services] == ["c", "a", "b"]


def test_the_runtime_directory(folder, monkeypatch):
    folder.write("services: {a: {server: 'a:B'}}")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    assert folder.load().runtime_dir == "/run/one"
    folder.write("runtime_dir: run\nservices: {a: {server: 'a:B'}}")
    assert folder.load().runtime_dir == f"{folder.path}/run"


@pytest.mark.parametrize(
    ("uid", "xdg", "expected"),
    [(0, "/run/user/0", "/run/forkd"), (7, "/run/user/7", "/run/user/7/forkd"), (7, "", "/tmp/forkd-7")],
)
def test_the_runtime_directory_without_one(folder, monkeypatch, uid, xdg, expected):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    folder.write("services: {a: {server: 'a:B'}}")
    assert folder.load().runtime_dir == expected


def test_specs_survive_json(service):
    spec = service(f"{WSGI}bind: [127.0.0.1:80, unix:/a]\nrestart: {{delay: 2}}\numask: 022\nenvironment: {{A: ü}}")
    assert spec_from(json.loads(json.dumps(spec_to(spec)))) == spec
    config = Config("/run/forkd", "debug", "json", (spec,))
    assert config_from(json.loads(json.dumps(config_to(config)))) == config


def test_a_spec_is_of_plain_types_alone(service):
    spec = service("args: {a: x, b: 1, c: 1.5}\nenvironment: {A: a}\ntopic: a\nworkers: 3")
    specs = {RestartSpec, RecycleSpec, HealthcheckSpec, AccessLogSpec, TlsSpec}
    plain = {str, int, float, bool, type(None), dict, tuple, *specs}
    assert {type(value) for value in spec} <= plain
    assert {type(value) for value in (*spec.args.values(), *spec.environment.values())} == {str, int, float}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"runtime_dir": "/", "x": 1},
        {"runtime_dir": "/", "services": {}},
        {"runtime_dir": "/", "services": [1]},
    ],
)
def test_other_documents_are_refused(document):
    with pytest.raises(ProtocolError):
        config_from(document)


def test_a_document_of_a_spec_takes_defaults():
    assert spec_from({"name": "a", "server": "a:B"}) == ServiceSpec("a", "a:B")


def test_a_healthcheck_brings_who_asks(folder):
    checked = "{server: wsgi, app: 'a:b', bind: ':0', healthcheck: {http: /healthz}}"
    folder.write(f"services: {{a: {checked}, b: {{server: 'b:C'}}, c: {checked.replace(':0', ':1')}}}")
    *own, helper = folder.load().services
    assert [spec.name for spec in own] == ["a", "b", "c"]
    assert (helper.name, helper.server, helper.workers) == ("healthcheck", "forkd.ops.health:Prober", 1)
    folder.write("services: {b: {server: 'b:C'}}")
    assert [spec.name for spec in folder.load().services] == ["b"]
