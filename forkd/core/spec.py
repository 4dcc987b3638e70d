"""What a configuration asks for, frozen and already validated; it knows nothing of what runs.

Every supported key of `services.yaml` is one field here. Validation, error texts, the JSON Schema
and the reference page are derived from the field's type, its default and its `Doc`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from forkd.core.field import AtLeast, AtMost, Doc, OneOf, OnlyWith, Secret, Unit

ONE_YEAR = 31_536_000
ONE_TEBIBYTE = 1 << 40
UNLIMITED, LARGEST_LIMIT = -1, 1 << 62  # of setrlimit(2), as Python has them
LARGEST_PROCESSOR = 8191  # of any kernel
MOST_WORKERS = 10_000  # of one service
BUILT_IN = frozenset({"healthcheck"})  # services of forkd's own, which a configuration does not name
Seconds = Annotated[float, Unit("duration"), AtLeast(0), AtMost(ONE_YEAR)]
Bytes = Annotated[int, Unit("size"), AtLeast(0), AtMost(ONE_TEBIBYTE)]
RuntimeDir = Annotated[
    str, Unit("path"), Doc("the folder of the control socket, the pid file and the RPC sockets", "/run/forkd")
]
LogLevel = Annotated[
    str,
    OneOf(("debug", "info", "warning", "error")),
    Doc("the least that the launcher and the workers log", "debug"),
]
LogFormat = Annotated[
    str,
    OneOf(("text", "json")),
    Doc("how a line of the launcher's and the workers' log is written: for people, or a JSON object", "json"),
]
Wsgi, Own = OnlyWith("wsgi"), OnlyWith("own")


class RestartSpec(NamedTuple):
    """Whether, and how soon, a worker that ended is replaced."""

    delay: Annotated[Seconds, Doc("wait before the first respawn after an unhealthy run")] = 0.1
    max_delay: Annotated[Seconds, Doc("the longest wait between two respawns")] = 30.0
    factor: Annotated[
        float, AtLeast(1), AtMost(1000), Doc("what each further unhealthy run multiplies the wait by")
    ] = 2.0
    healthy_after: Annotated[Seconds, Doc("a worker that lived this long is respawned at once")] = 10.0
    policy: Annotated[
        str,
        OneOf(("always", "on-failure", "never")),
        Doc("who is replaced: all, those that did not end with code 0, or nobody"),
    ] = "always"
    max_restarts: Annotated[
        int, AtLeast(0), AtMost(1_000_000), Doc("failures within `window` that the service survives; 0: any number")
    ] = 0
    window: Annotated[Seconds, AtLeast(0.001), Doc("the time that they are counted over")] = 60.0


class RecycleSpec(NamedTuple):
    """When a worker that works well is replaced all the same; 0: never for this reason."""

    requests: Annotated[int, AtLeast(0), AtMost(1 << 40), Doc("after so many requests or calls", "10000")] = 0
    jitter: Annotated[
        float, Unit("percentage"), Doc("so much sooner at most, each worker otherwise, by requests and age")
    ] = 0.1
    memory: Annotated[Bytes, Doc("when its share of the memory (PSS) is larger", "512MiB")] = 0
    age: Annotated[Seconds, Doc("when it is so old", "12h")] = 0.0


class HealthcheckSpec(NamedTuple):
    """What each worker is asked to learn whether it still does what it is there for."""

    http: Annotated[
        str, Unit("url path"), Doc("the path that is asked for with GET; 200 to 399 is healthy", "/healthz")
    ] = ""
    interval: Annotated[Seconds, AtLeast(0.001), Doc("from one question to the next")] = 10.0
    timeout: Annotated[Seconds, AtLeast(0.001), Doc("how long the whole answer may take")] = 2.0
    failures: Annotated[
        int, AtLeast(1), AtMost(1_000_000), Doc("so many in a row, and the worker is drained and replaced")
    ] = 3


class AccessLogSpec(NamedTuple):
    """Where each request is logged, and how."""

    file: Annotated[
        str, Unit("log file"), Doc("`stdout`, `stderr`, or a path; USR1 opens it anew", "/var/log/shop/access.log")
    ] = ""
    format: Annotated[
        str, OneOf(("text", "json")), Doc("a line of the combined log format and more, or a JSON object", "json")
    ] = "text"


class TlsSpec(NamedTuple):
    """How a port speaks TLS; its Unix sockets do not."""

    certfile: Annotated[
        str, Unit("path"), Doc("the certificate in PEM, those that have signed it after it", "/etc/ssl/shop.pem")
    ] = ""
    keyfile: Annotated[
        str,
        Unit("path"),
        Doc("its private key, which root alone need be able to read; default: in `certfile`", "/etc/ssl/shop.key"),
    ] = ""
    ca: Annotated[
        str, Unit("path"), Doc("the authorities that clients come from, where they are asked", "/etc/ssl/clients.pem")
    ] = ""
    client_auth: Annotated[
        str, OneOf(("none", "optional", "required")), Doc("whether clients show a certificate", "required")
    ] = "none"


class ServiceSpec(NamedTuple):
    """One service of the configuration, with every default filled in and every unit resolved."""

    name: str
    server: Annotated[
        str, Unit("server"), Doc("what a worker serves: `wsgi`, or `package.module:ServerSubclass`", "wsgi")
    ]
    app: Annotated[
        str | None,
        Unit("app"),
        Wsgi,
        Doc("the WSGI callable `module:name`, or a factory `module:name()`", "shop.web:application"),
    ] = None
    bind: Annotated[
        tuple[Annotated[str, Unit("address")], ...],
        Wsgi,
        Doc(
            "where a WSGI service listens: `host:port`, `[::1]:port`, `unix:/path`",
            '["127.0.0.1:8080", "unix:/run/shop.sock"]',
        ),
    ] = ()
    workers: Annotated[
        int,
        Unit("count"),
        AtLeast(0),
        AtMost(MOST_WORKERS),
        Doc("worker processes, or `auto`: one per usable CPU", "4"),
    ] = 1
    topic: Annotated[
        str | None, Unit("topic"), Own, Doc("the RPC topic that the service's public methods are called on", "billing")
    ] = None
    transport: Annotated[
        str, Unit("transport"), Own, Secret(), Doc("how RPC calls travel: `local`, or a broker's `amqp://…`", "local")
    ] = "local"
    allow: Annotated[
        tuple[Annotated[str, Unit("peer")], ...],
        Own,
        Doc("whose calls on this host are taken, besides root's and its own user's", "[user:www-data, gid:50]"),
    ] = ()
    call_queue: Annotated[
        int | None,
        AtLeast(0),
        AtMost(1_000_000),
        Own,
        Doc("RPC calls that may wait in a worker, the next is refused; default: as many as `threads`", "0"),
    ] = None
    args: Annotated[
        dict[Annotated[str, Unit("argument")], Any],
        Own,
        Secret(),
        Doc("keyword arguments of the server's constructor", "{retention_days: 30}"),
    ] = {}  # noqa: RUF012 -- a NamedTuple default, never written to
    concurrency: Annotated[
        str, OneOf(("eventlet", "threads")), Doc("`eventlet` (green threads) or `threads` (native ones)", "threads")
    ] = "eventlet"
    threads: Annotated[
        int,
        AtLeast(1),
        AtMost(100_000),
        Doc("most threads at once in a worker; default: 1000 green or 32 native ones", "200"),
    ] = 0
    preload: Annotated[
        bool, Doc("import the code once in the zygote; false: in each worker after its fork", "false")
    ] = True
    python: Annotated[
        str | None,
        Unit("program"),
        Doc(
            "the interpreter of the service's own virtual environment, Python 3.11 or later with the same forkd as the "
            "launcher's; default: the launcher's",
            "/srv/shop/venv/bin/python",
        ),
    ] = None
    directory: Annotated[
        str | None, Unit("folder"), Doc("the working directory; default: the launcher's", "/srv/shop")
    ] = None
    pythonpath: Annotated[
        tuple[Annotated[str, Unit("path")], ...], Doc("folders put first on the import path", "[/srv/shop]")
    ] = ()
    environment: Annotated[
        dict[Annotated[str, Unit("variable")], Annotated[str, Unit("text")]],
        Secret(),
        Doc("environment variables, beside those of the launcher", "{TZ: UTC}"),
    ] = {}  # noqa: RUF012 -- as above
    env_file: Annotated[
        str | None,
        Unit("path"),
        Doc("a file of more of them, `NAME=VALUE` lines as in systemd; `environment` wins", "/etc/default/shop"),
    ] = None
    secrets: Annotated[
        dict[Annotated[str, Unit("variable")], Annotated[str, Unit("path")]],
        Secret(),
        Doc(
            "variables whose values stand in files, which root alone need be able to read", "{DB_URL: /run/secrets/db}"
        ),
    ] = {}  # noqa: RUF012 -- as above
    user: Annotated[str | None, Unit("user"), Doc("whom the service's processes run as", "www-data")] = None
    group: Annotated[str | None, Unit("group"), Doc("their group; default: the user's own", "www-data")] = None
    umask: Annotated[int | None, Unit("octal"), AtMost(0o777), Doc("their umask", '"027"')] = None
    limits: Annotated[
        dict[Annotated[str, Unit("limit name")], Annotated[int, Unit("limit"), AtLeast(0), AtMost(LARGEST_LIMIT)]],
        Doc("resource limits, soft and hard, by their names in setrlimit(2): numbers, or `unlimited`", "{core: 0}"),
    ] = {}  # noqa: RUF012 -- as above
    nice: Annotated[
        int | None, AtLeast(-20), AtMost(19), Doc("the processes' niceness; default: the launcher's", "5")
    ] = None
    oom_score_adj: Annotated[
        int | None,
        AtLeast(-1000),
        AtMost(1000),
        Doc("how soon the kernel kills them when memory is out; default: as the launcher", "500"),
    ] = None
    cpu_affinity: Annotated[
        tuple[Annotated[int, Unit("processor"), AtLeast(0), AtMost(LARGEST_PROCESSOR)], ...],
        Doc("the only processors that they run on; default: the launcher's", "[0, 1]"),
    ] = ()
    start_timeout: Annotated[
        Seconds, AtLeast(0.001), Doc("how long an import, and a worker's start, may take", "2m")
    ] = 30.0
    stop_timeout: Annotated[Seconds, Doc("how long a worker may drain after TERM before it gets ABRT", "10s")] = 30.0
    kill_timeout: Annotated[
        Seconds, Doc("how long a worker may dump its stacks after ABRT before it gets KILL", "500ms")
    ] = 5.0
    hang_timeout: Annotated[
        Seconds, Doc("a worker without a heartbeat for so long dumps its stacks and is replaced; 0: never", "1m")
    ] = 30.0
    request_timeout: Annotated[
        Seconds,
        Doc("a request or call that takes longer is logged with its stack, and its worker replaced; 0: never", "1m"),
    ] = 0.0
    restart: Annotated[RestartSpec, Doc("whether, and how soon, a worker that ended is replaced")] = RestartSpec()
    recycle: Annotated[
        RecycleSpec, Doc("when a worker is replaced for its work, its memory or its age; its successor is ready first")
    ] = RecycleSpec()
    after: Annotated[
        tuple[Annotated[str, Unit("service")], ...],
        Doc("the services that must be ready before this one starts; they are stopped after it", "[db, cache]"),
    ] = ()
    healthcheck: Annotated[
        HealthcheckSpec, Wsgi, Doc("what each worker is asked every so often; who fails is drained and replaced")
    ] = HealthcheckSpec()
    reload: Annotated[
        str, OneOf(("rolling", "signal", "restart")), Doc("how a reload replaces the workers", "restart")
    ] = "rolling"
    surge: Annotated[
        int,
        Unit("share"),
        AtLeast(1),
        AtMost(10_000),
        Doc("workers above `workers` that a roll may have: a number, or a percentage of them, rounded up", "25%"),
    ] = 1
    keepalive_timeout: Annotated[Seconds, Wsgi, Doc("how long an idle keep-alive connection is kept", "75s")] = 5.0
    header_timeout: Annotated[
        Seconds, AtLeast(0.001), Wsgi, Doc("how long a client may take to send a request head", "30s")
    ] = 10.0
    request_line_limit: Annotated[Bytes, AtLeast(1), Wsgi, Doc("longest request line", "16KiB")] = 8190
    header_limit: Annotated[Bytes, AtLeast(1), Wsgi, Doc("longest request head, all its lines together", "128KiB")] = (
        65536
    )
    body_limit: Annotated[Bytes, Wsgi, Doc("longest request body; 0: no limit", "50MiB")] = 0
    backlog: Annotated[
        int, AtLeast(1), AtMost(65_535), Wsgi, Doc("connections the kernel queues before they are accepted", "512")
    ] = 2048
    reuse_port: Annotated[
        bool, Wsgi, Doc("let other programs of the launcher's user listen on the same ports (SO_REUSEPORT)", "true")
    ] = False
    forwarded_allow_ips: Annotated[
        tuple[Annotated[str, Unit("proxy")], ...],
        Wsgi,
        Doc(
            "the proxies that are believed who a client is, by `X-Forwarded-For`, `X-Forwarded-Proto` and the PROXY "
            "protocol: addresses, networks, `unix` (who comes by a Unix socket), or `*`",
            "[10.0.0.0/8, unix]",
        ),
    ] = ("127.0.0.1", "::1", "unix")
    proxy_protocol: Annotated[
        bool, Wsgi, Doc("whether these proxies begin each connection with a header of the PROXY protocol", "true")
    ] = False
    access_log: Annotated[AccessLogSpec, Wsgi, Doc("where each request is logged; default: nowhere")] = AccessLogSpec()
    tls: Annotated[TlsSpec, Wsgi, Doc("how the ports speak TLS; default: they do not")] = TlsSpec()
    lease: str | None = None  # that of the file, for servers of one's own; no key of a service


class Config(NamedTuple):
    """A whole configuration: what the launcher itself needs, and its services in the order of the file."""

    runtime_dir: RuntimeDir
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    services: tuple[ServiceSpec, ...] = ()
