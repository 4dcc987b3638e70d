"""Each rule, broken once: the exact line that users see."""

from __future__ import annotations

import pytest

OWN = "services:\n  shop:\n    server: a.b:C\n"
WSGI = "services:\n  shop:\n    server: wsgi\n    app: a.b:c\n    bind: 127.0.0.1:80\n"
DURATION = "(250ms, 30s, 5m, 12h or a number of seconds)"
SIZE = "(512KiB, 50MiB, 1GiB or a number of bytes)"
LIMITS = "as, core, cpu, data, fsize, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack"
ADDRESS = '"host:port" with an IP address, "[::1]:port" or "unix:/path"'

OF_A_SERVICE = [
    ("workers: four", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got "four"'),
    ("workers: -1", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got -1'),
    ("workers: 1.5", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got 1.5'),
    ("workers: true", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got true'),
    ("workers:", '13: services.shop.workers: expected an integer ≥ 0 or "auto", got nothing'),
    ("workers: [1]", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got a list'),
    ("workers: {a: 1}", '14: services.shop.workers: expected an integer ≥ 0 or "auto", got a mapping'),
    ('workers: "4"', '14: services.shop.workers: expected an integer ≥ 0 or "auto", got "4"'),
    ("workers: 10001", "14: services.shop.workers: expected at most 10000, got 10001"),
    ("worker: 3", '5: services.shop.worker: unknown key; did you mean "workers"?'),
    ("zzz: 3", "5: services.shop.zzz: unknown key"),
    ('"a b": 3', '5: services.shop."a b": unknown key'),
    ("threads: 0", "14: services.shop.threads: expected an integer ≥ 1, got 0"),
    ("preload: maybe", '14: services.shop.preload: expected true or false, got "maybe"'),
    ("concurrency: gevent", '18: services.shop.concurrency: expected "eventlet" or "threads", got "gevent"'),
    ("reload: hard", '13: services.shop.reload: expected "rolling", "signal" or "restart", got "hard"'),
    ("stop_timeout: soon", f'19: services.shop.stop_timeout: expected a duration {DURATION}, got "soon"'),
    ("stop_timeout: -1", f"19: services.shop.stop_timeout: expected a duration {DURATION}, got -1"),
    ("stop_timeout: 1:30", f'19: services.shop.stop_timeout: expected a duration {DURATION}, got "1:30"'),
    ("stop_timeout: .inf", f'19: services.shop.stop_timeout: expected a duration {DURATION}, got ".inf"'),
    ("stop_timeout: 9000h", '19: services.shop.stop_timeout: expected at most 31536000s, got "9000h"'),
    ("start_timeout: 0", f"20: services.shop.start_timeout: expected a duration above 0 {DURATION}, got 0"),
    ("umask: 9", '12: services.shop.umask: expected octal digits such as "027", got 9'),
    ("umask: 7777", "12: services.shop.umask: expected at most 0777, got 7777"),
    ("surge: 0%", '12: services.shop.surge: expected an integer ≥ 1 or a percentage such as 25%, got "0%"'),
    ("surge: 0", "12: services.shop.surge: expected an integer ≥ 1 or a percentage such as 25%, got 0"),
    ("user: nobody-such", '11: services.shop.user: expected a user that exists, got "nobody-such"'),
    ("group: nobody-such", '12: services.shop.group: expected a group that exists, got "nobody-such"'),
    ("directory: /no/such", '16: services.shop.directory: expected a directory that exists, got "/no/such"'),
    ("directory: 3", "16: services.shop.directory: expected the path of a directory, got 3"),
    ("pythonpath: {a: b}", "17: services.shop.pythonpath: expected a list, got a mapping"),
    ("pythonpath:", "16: services.shop.pythonpath: expected a list, got nothing"),
    ("pythonpath: [/a, 3]", "22: services.shop.pythonpath[1]: expected a path, got 3"),
    ("pythonpath: 3", "17: services.shop.pythonpath: expected a path, got 3"),
    ("args: [1]", "11: services.shop.args: expected a mapping, got a list"),
    ("args: {a-b: 1}", "12: services.shop.args.a-b: expected the name of a keyword argument, got a string"),
    ("environment: {A: true}", "22: services.shop.environment.A: expected a string (in quotes), got true or false"),
    ("environment: {A: [secret]}", "22: services.shop.environment.A: expected a string (in quotes), got a list"),
    ('environment: {"A=B": c}', '19: services.shop.environment."A=B": expected the name of an environment variable, got a string'),
    ("restart: 3", "14: services.shop.restart: expected a mapping with delay, max_delay, factor, healthy_after, policy, max_restarts or window, got a number"),
    ("lease: redis://h/0", "5: services.shop.lease: unknown key; it stands beside `services`"),
    ("restart: {dealy: 3}", '15: services.shop.restart.dealy: unknown key; did you mean "delay"?'),
    ("restart: {factor: 0.5}", "23: services.shop.restart.factor: expected a number ≥ 1, got 0.5"),
    ("restart: {delay: 60}", "22: services.shop.restart.delay: expected at most max_delay, which is 30s, got 60s"),
    ("topic: a/b", '12: services.shop.topic: expected a topic of 1 to 64 letters, digits, _, - and ., not - or . first, got "a/b"'),
    ("topic: ..", '12: services.shop.topic: expected a topic of 1 to 64 letters, digits, _, - and ., not - or . first, got ".."'),
    ("hang_timeout: soon", '19: services.shop.hang_timeout: expected a duration (250ms, 30s, 5m, 12h or a number of seconds), got "soon"'),
    ("recycle: {requests: x}", '25: services.shop.recycle.requests: expected an integer ≥ 0, got "x"'),
    ("recycle: {reqests: 1}", '15: services.shop.recycle.reqests: unknown key; did you mean "requests"?'),
    ("recycle: {jitter: 10}", "23: services.shop.recycle.jitter: expected a percentage such as 10%, got 10"),
    ("after: [a b]", '13: services.shop.after[0]: expected a name of 1 to 64 letters, digits, _ and -, got "a b"'),
    ("after: [shop]", "13: services.shop.after[0]: comes after itself: shop after shop"),
    ("after: [shp]", '13: services.shop.after[0]: no service is named "shp"; did you mean "shop"?'),
    ("recycle: {jitter: 101%}", '23: services.shop.recycle.jitter: expected a percentage such as 10%, got "101%"'),
    ("restart: {policy: sometimes}", '23: services.shop.restart.policy: expected "always", "on-failure" or "never", got "sometimes"'),
    ("allow: [root]", '13: services.shop.allow[0]: expected uid:…, gid:…, user:… or group:…, got "root"'),
    ("allow: [uid:root]", '13: services.shop.allow[0]: expected uid:…, gid:…, user:… or group:…, got "uid:root"'),
    ("allow: [uid:0, user:nobody-such]", '20: services.shop.allow[1]: expected a user that exists, got "user:nobody-such"'),
    ("allow: group:nobody-such", '12: services.shop.allow: expected a group that exists, got "group:nobody-such"'),
    ("allow: uid:0", '12: services.shop.allow: makes sense only with "topic"'),
    ("transport: local", '16: services.shop.transport: makes sense only with "topic"'),
    ("limits: {nofile: many}", '22: services.shop.limits.nofile: expected an integer ≥ 0 or "unlimited", got "many"'),
    ("limits: {nofile: -1}", '22: services.shop.limits.nofile: expected an integer ≥ 0 or "unlimited", got -1'),
    ("limits: {RLIMIT_CORE: 0}", f'14: services.shop.limits.RLIMIT_CORE: expected {LIMITS}, got "RLIMIT_CORE"'),
    ("secrets: {PIN: 1234}", "20: services.shop.secrets.PIN: expected a path, got a number"),
    ('secrets: {"A=B": a}', '15: services.shop.secrets."A=B": expected the name of an environment variable, got a string'),
    ("python: /srv", '13: services.shop.python: expected a program that exists, got "/srv"'),
    ("python: /etc/passwd", '13: services.shop.python: expected a program that exists, got "/etc/passwd"'),
    ("nice: 20", "11: services.shop.nice: expected at most 19, got 20"),
    ("nice: -21", "11: services.shop.nice: expected an integer ≥ -20, got -21"),
    ("oom_score_adj: high", '20: services.shop.oom_score_adj: expected an integer ≥ -1000, got "high"'),
    ("cpu_affinity: [0-3]", '20: services.shop.cpu_affinity[0]: expected the number of a processor, got "0-3"'),
    ("cpu_affinity: 8191", "19: services.shop.cpu_affinity: expected a processor that exists, got 8191"),
    (
        "allow: uid:0\n    topic: t\n    transport: amqp://h",
        '12: services.shop.allow: makes sense only with "transport: local"; a broker has users of its own',
    ),
    ("transport: udp", '16: services.shop.transport: expected "local" or "amqp://USER@HOST/VHOST", got a string'),
    ("app: a:b", '10: services.shop.app: makes sense only with "server: wsgi"'),
    ("bind: 127.0.0.1:80", '11: services.shop.bind: makes sense only with "server: wsgi"'),
    ("body_limit: 1KiB", '17: services.shop.body_limit: makes sense only with "server: wsgi"'),
    ("topic: !!binary aGk=", "12: services.shop.topic: the tag tag:yaml.org,2002:binary is not known here"),
    ("topic: !ruby/object x", "12: services.shop.topic: the tag !ruby/object is not known here"),
    ("args: !!python/object:os.system {a: 1}", "11: services.shop.args: the tag tag:yaml.org,2002:python/object:os.system is not known here"),
    ("workers: !!int four", "14: services.shop.workers: the tag !!int does not fit its value"),
    ("server: a.b:D", "5: services.shop.server: given twice; first at line 3"),
    ('topic: "a\\0b"', "12: services.shop.topic: holds a NUL character"),
    ('topic: "a\\ud800b"', "12: services.shop.topic: holds half of a surrogate pair, which is no character"),
    ("topic: ${NO_SUCH}", "12: services.shop.topic: ${NO_SUCH} is not set and has no default"),
    ("topic: ${no such}", '12: services.shop.topic: a "${" that is not ${NAME} or ${NAME:-default}; "$${" stands for itself'),
    ("topic: ${OPEN", '12: services.shop.topic: a "${" that is not ${NAME} or ${NAME:-default}; "$${" stands for itself'),
    ("<<: 3", '9: services.shop."<<": expected a mapping or a list of mappings to merge'),
]  # fmt: skip

OF_WSGI = [
    (
        "healthcheck: 3",
        "18: services.shop.healthcheck: expected a mapping with http, interval, timeout or failures, got a number",
    ),
    ("access_log: a.log", "17: services.shop.access_log: expected a mapping with file or format, got a string"),
    (
        "healthcheck: {interval: 1s}",
        '18: services.shop.healthcheck.http: missing; expected the path to ask for, as in "http: /healthz"',
    ),
    (
        "healthcheck: {http: healthz}",
        '25: services.shop.healthcheck.http: expected a path such as /healthz, got "healthz"',
    ),
    ("body_limit: 5MB", f'17: services.shop.body_limit: expected a size {SIZE}, got "5MB"'),
    ("header_limit: 0", f"19: services.shop.header_limit: expected a size above 0 {SIZE}, got 0"),
    ("backlog: 65536", "14: services.shop.backlog: expected at most 65535, got 65536"),
    ("topic: a", '12: services.shop.topic: makes sense only with a server of your own, not with "server: wsgi"'),
    ("args: {a: 1}", '11: services.shop.args: makes sense only with a server of your own, not with "server: wsgi"'),
]

ADDRESSES = [
    ('"80"', f"expected {ADDRESS}"),
    ("80", f"expected {ADDRESS}"),
    ('"127.0.0.1:65536"', f"expected {ADDRESS}"),
    ('"127.0.0.1:-1"', f"expected {ADDRESS}"),
    ('"shop.example:80"', f"expected {ADDRESS} (a name is not looked up)"),
    ('"[::1:80"', f"expected {ADDRESS}"),
    ('"[nope]:80"', f"expected {ADDRESS} (a name is not looked up)"),
    ('"::1:80"', f"expected {ADDRESS}"),
    ('"unix:"', "expected a path of 1 to 107 bytes after unix:"),
]

WHOLE = [
    ("services: [a]", "1:11: services: expected a mapping, got a list"),
    ("services:", "1:10: services: expected a mapping, got nothing"),
    ("services: {}", "1:1: services: expected at least one service, got none"),
    ("log: {level: info}", "1:1: services: expected at least one service, got none"),
    ("services: {a b: {server: 'a:B'}}", '1:12: services."a b": expected a name of 1 to 64 letters, digits, _ and -, got "a b"'),
    ("services: {a: 3}", "1:15: services.a: expected a mapping, got a number"),
    ("services: {a: }", "1:14: services.a: expected a mapping, got nothing"),
    ("services: {a: {}}", '1:12: services.a.server: missing; expected "wsgi" or "package.module:ServerSubclass"'),
    ("services: {a: {server: shop}}", '1:24: services.a.server: expected "wsgi" or "package.module:ServerSubclass", got "shop"'),
    ("services: {a: {server: wsgi, bind: '127.0.0.1:1'}}", '1:12: services.a.app: missing; "server: wsgi" needs the application to serve'),
    ("services: {a: {server: wsgi, app: 'a:b'}}", '1:12: services.a.bind: missing; "server: wsgi" needs an address to listen on'),
    ("services: {a: {server: wsgi, app: 'a:b', bind: []}}", '1:48: services.a.bind: missing; "server: wsgi" needs an address to listen on'),
    ("services: {a: {server: wsgi, app: a.b, bind: '127.0.0.1:1'}}", '1:35: services.a.app: expected "package.module:application" or "package.module:factory()", got "a.b"'),
    ("workers: 3\nservices: {a: {server: 'a:B'}}", "1:1: workers: unknown key; it belongs to a service, or into `defaults`"),
    ("servces: {}\nservices: {a: {server: 'a:B'}}", '1:1: servces: unknown key; did you mean "services"?'),
    ("log: {levle: info}\nservices: {a: {server: 'a:B'}}", '1:7: log.levle: unknown key; did you mean "level"?'),
    ("log: {level: loud}\nservices: {a: {server: 'a:B'}}", '1:14: log.level: expected "debug", "info", "warning" or "error", got "loud"'),
    ("defaults: {workers: x}\nservices: {a: {server: 'a:B'}}", '1:21: defaults.workers: expected an integer ≥ 0 or "auto", got "x"'),
    ("defaults: 3\nservices: {a: {server: 'a:B'}}", "1:11: defaults: expected a mapping, got a number"),
    ("runtime_dir: 3\nservices: {a: {server: 'a:B'}}", "1:14: runtime_dir: expected a path, got 3"),
    ("- a", "1:1: expected a mapping with services, got a list"),
    ("just text", '1:1: expected a mapping with services, got "just text"'),
    ("? [a]\n: b", "1:3: expected a string as key"),
    ("services: {}\n---\nservices: {}", "2:1: expected one YAML document, found a second one"),
    ("a: b: c", "1:5: not valid YAML: mapping values are not allowed here"),
    ("services:\n\t- a", "2:1: not valid YAML: found character '\\t' that cannot start any token"),
    ('a: "\\Uffffffff"', "not valid YAML: an escape names a character that does not exist"),
    ("a: *b", '1:4: not valid YAML: the alias "*b" has no anchor before it'),
    ("a: \x07", "1:4: not a text file: it holds the character U+0007"),
    ("services: &s\n  a: *s", '2:6: the alias "*s" is part of what it stands for'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "problem"), OF_A_SERVICE)
def test_a_service(told, line, problem):
    assert told(f"{OWN}    {line}\n") == [f"services.yaml:4:{problem}"]


@pytest.mark.parametrize(("line", "problem"), OF_WSGI)
def test_a_wsgi_service(told, line, problem):
    assert told(f"{WSGI}    {line}\n") == [f"services.yaml:6:{problem}"]


@pytest.mark.parametrize(("address", "problem"), ADDRESSES)
def test_an_address(told, address, problem):
    text = f"services:\n  shop:\n    server: wsgi\n    app: a.b:c\n    bind:\n    - {address}\n"
    assert told(text) == [f"services.yaml:6:7: services.shop.bind[0]: {problem}, got {address}"]


def test_a_long_socket_path(told):
    path = "/" + 107 * "x"
    text = f"services:\n  shop:\n    server: wsgi\n    app: a.b:c\n    bind: unix:{path}\n"
    shown = f"unix:{path}"[:59]
    assert told(text) == [
        f'services.yaml:5:11: services.shop.bind: expected a path of 1 to 107 bytes after unix:, got "{shown}…"'
    ]


@pytest.mark.parametrize(("text", "problem"), WHOLE)
def test_a_file(told, text, problem):
    place = "services.yaml:" if problem[0].isdigit() else "services.yaml: "
    assert told(text) == [f"{place}{problem}"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("*:80", "localhost:80"),
        ("[::1]:80", "[0:0::1]:80"),
        ("[::]:80", "[::1]:80"),
        ("unix:/run/a", "unix:/run/../run/a"),
    ],
)
def test_two_services_on_one_address(told, one, other):
    text = "services:\n" + "".join(
        f"  {name}: {{server: wsgi, app: 'a:b', bind: ['{address}']}}\n" for name, address in (("a", one), ("b", other))
    )
    shown = other.replace("/run/../run", "/run")
    assert told(text) == [f"services.yaml:3:40: services.b.bind[0]: {shown} is taken by services.a already"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:80", "127.0.0.2:80"), ("0.0.0.0:80", "0.0.0.0:81"), ("[::1]:80", "127.0.0.1:80"), ("unix:/a", "unix:/b")],
)  # fmt: skip
def test_addresses_that_do_not_clash(folder, one, other):
    folder.write(f"services: {{a: {{server: wsgi, app: 'a:b', bind: ['{one}', '{other}']}}}}")
    assert folder.load().services[0].bind == (one, other)


def test_one_service_twice_on_an_address(told):
    text = "services: {a: {server: wsgi, app: 'a:b', bind: ['127.0.0.1:80', '127.0.0.1:80']}}"
    assert told(text) == ["services.yaml:1:65: services.a.bind[1]: 127.0.0.1:80 is taken by this service already"]


def test_two_services_with_one_topic(told):
    text = "services:\n  a: {server: 'a:B', topic: t}\n  b: {server: 'a:C', topic: t}\n"
    assert told(text) == ['services.yaml:3:29: services.b.topic: "t" is taken by services.a already']


def test_one_topic_of_the_defaults_for_two_services(told):
    text = "defaults: {topic: t}\nservices: {a: {server: 'a:B'}, b: {server: 'a:C'}}\n"
    assert told(text) == ['services.yaml:1:19: services.b.topic: "t" is taken by services.a already']


def test_a_runtime_directory_too_long_for_sockets(told):
    path = f"/run/{84 * 'x'}"
    text = f"runtime_dir: {path}\nservices: {{a: {{server: 'a:B', topic: topic}}}}"
    assert told(text) == [
        f"services.yaml:2:38: services.a.topic: too long by 2 bytes for a socket below the runtime directory {path}"
    ]


def test_a_runtime_directory_too_long_for_private_sockets(told):
    path = f"/run/{82 * 'x'}"
    text = f"runtime_dir: {path}\nservices: {{a: {{server: wsgi, app: 'a:b', bind: ':0', healthcheck: {{http: /}}}}}}"
    (problem,) = told(text)
    place, _, rest = problem.partition(": its sockets")
    assert place == "services.yaml:2:67: services.a.healthcheck"
    assert rest == f" do not fit below the runtime directory {path}, which is too long by 2 bytes"


def test_the_name_of_a_service_of_forkds_own(told):
    assert told("services: {healthcheck: {server: 'a:B'}}") == [
        "services.yaml:1:12: services.healthcheck: the name is that of a service of forkd's own; choose another one"
    ]


def test_a_service_too_large_for_a_message(told):
    text = f"services: {{a: {{server: 'a:B', environment: {{A: '{60_000 * 'x'}'}}}}}}"
    (problem,) = told(text)
    assert problem.startswith("services.yaml:1:12: services.a: too large: its settings take 61")
    assert problem.endswith(" bytes as JSON, 60000 are allowed")


def test_all_mistakes_at_once_sorted_by_place(told):
    text = """\
defaults:
  stop_timeout: soon
services:
  shop:
    worker: 3
    workers: four
    app: shop.web:application
    topic: ${NO_SUCH}
    no_new_privileges: true
  billing:
    server: shop.billing:Billing
    bind: 127.0.0.1:80
log: {level: 3}
"""
    assert told(text) == [
        f'services.yaml:2:17: defaults.stop_timeout: expected a duration {DURATION}, got "soon"',
        'services.yaml:4:3: services.shop.server: missing; expected "wsgi" or "package.module:ServerSubclass"',
        'services.yaml:5:5: services.shop.worker: unknown key; did you mean "workers"?',
        'services.yaml:6:14: services.shop.workers: expected an integer ≥ 0 or "auto", got "four"',
        "services.yaml:8:12: services.shop.topic: ${NO_SUCH} is not set and has no default",
        "services.yaml:9:5: services.shop.no_new_privileges: not yet supported in this version of forkd",
        'services.yaml:12:11: services.billing.bind: makes sense only with "server: wsgi"',
        'services.yaml:13:14: log.level: expected "debug", "info", "warning" or "error", got 3',
    ]


def test_a_suggestion_comes_from_the_same_mapping_alone(told):
    assert told(f"{OWN}    levle: 3\n") == ["services.yaml:4:5: services.shop.levle: unknown key"]


def test_no_more_lines_than_people_read(told):
    problems = told(OWN + "".join(f"    x{number}: 1\n" for number in range(300)))
    assert len(problems) == 201
    assert problems[-1] == "… and 100 more"


@pytest.mark.parametrize(
    "lines",
    [
        "environment: {A: [hunter2]}",
        "environment: [hunter2]",
        "args: {a-b: hunter2}",
        "args: hunter2",
        "topic: ${PASSWORD}/",
        "workers: ${PASSWORD}",
        "transport: amqp://shop:hunter2@broker:0/",
        "transport: amqp://shop:pass/hunter2@broker/",
        "transport: amqp://shop:pass?hunter2=1@broker/",
        "transport: amqp://broker/?password=hunter2",
        "transport: ampq://shop:hunter2@broker/",
        "secrets: {A: {a: hunter2}}",
        "lease_: hunter2",
        "lease: redis://:hunter2@127.0.0.1/0",
    ],
)
def test_no_message_tells_a_secret(told, lines):
    assert "hunter2" not in "\n".join(told(f"{OWN}    {lines}\n", {"PASSWORD": "hunter2"}))


def test_what_is_wrong_with_a_broker_s_address_is_told(told):
    text = f"{OWN}    topic: t\n    transport: amqps://u@h?cert=/c\n"
    assert told(text) == ["services.yaml:5:16: services.shop.transport: cert and key go together"]


def test_a_message_is_one_line_whatever_it_quotes(told):
    (problem,) = told(f'{OWN}    "a\\nb\\e[31m": 3\n')
    assert problem == 'services.yaml:4:5: services.shop."a\\nb\\u001b[31m": unknown key'


def test_so_is_one_that_names_a_file(told):
    (problem,) = told(f'{OWN}    env_file: "a\\nb"\n')
    assert problem.startswith("services.yaml:4:15: services.shop.env_file: ")
    assert problem.endswith("a\\nb: cannot read: no such file or directory")
