"""What a configuration asks for, frozen and already validated; it knows nothing of what runs.

Every supported key of `services.yaml` is one field here. Validation, error texts, the JSON Schema
and the reference page are derived from the field's type, its default and its `Doc`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple


class Doc(NamedTuple):
    """What the reference page says of a field, and an example value as it stands in YAML."""

    text: str
    example: str = ""


class Unit(NamedTuple):
    """How a field is written in YAML: `duration`, `size`, `octal`, `count` (or `auto`), `share` (number or percentage)."""

    name: str


class OneOf(NamedTuple):
    """The only values a field takes."""

    values: tuple[str, ...]


class AtLeast(NamedTuple):
    """The smallest number a field takes."""

    value: float


Seconds = Annotated[float, Unit("duration"), AtLeast(0)]
Bytes = Annotated[int, Unit("size"), AtLeast(0)]


class RestartSpec(NamedTuple):
    """How soon a worker that died is replaced."""

    delay: Annotated[Seconds, Doc("wait before the first respawn after an unhealthy run")] = 0.1
    max_delay: Annotated[Seconds, Doc("the longest wait between two respawns")] = 30.0
    factor: Annotated[float, AtLeast(1), Doc("what each further unhealthy run multiplies the wait by")] = 2.0
    healthy_after: Annotated[Seconds, Doc("a worker that lived this long is respawned at once")] = 10.0


class ServiceSpec(NamedTuple):
    """One service of the configuration, with every default filled in and every unit resolved."""

    name: str
    server: Annotated[str, Doc("what a worker serves: `wsgi`, or `package.module:ServerSubclass`", "wsgi")]
    app: Annotated[
        str | None, Doc("the WSGI callable `module:name`, or a factory `module:name()`", "shop.web:application")
    ] = None
    bind: Annotated[
        tuple[str, ...], Doc("where a WSGI service listens", '["127.0.0.1:8080", "unix:/run/shop.sock"]')
    ] = ()
    workers: Annotated[int, Unit("count"), AtLeast(0), Doc("worker processes, or `auto`: one per CPU", "4")] = 1
    topic: Annotated[str | None, Doc("the RPC topic that the service's public methods are called on", "billing")] = None
    transport: Annotated[str, Doc("how RPC calls travel: `local`")] = "local"
    args: Annotated[
        dict[str, Any], Doc("keyword arguments of the server's constructor", "{retention_days: 30}")
    ] = {}  # noqa: RUF012 -- a NamedTuple default, never written to
    concurrency: Annotated[
        str, OneOf(("eventlet", "threads")), Doc("`eventlet` (green threads) or `threads` (native ones)")
    ] = "eventlet"
    threads: Annotated[
        int, AtLeast(1), Doc("most threads at once in a worker; by default 1000 green or 32 native ones")
    ] = 0
    preload: Annotated[bool, Doc("import the code once in the zygote; false: in each worker after its fork")] = True
    directory: Annotated[str | None, Doc("the working directory", "/srv/shop")] = None
    pythonpath: Annotated[tuple[str, ...], Doc("folders put first on the import path", "[/srv/shop]")] = ()
    environment: Annotated[
        dict[str, str], Doc("environment variables, beside those of the launcher", '{TZ: UTC}')
    ] = {}  # noqa: RUF012 -- as above
    user: Annotated[str | None, Doc("whom the service's processes run as", "www-data")] = None
    group: Annotated[str | None, Doc("their group; by default the user's own", "www-data")] = None
    umask: Annotated[int | None, Unit("octal"), Doc("their umask", '"027"')] = None
    start_timeout: Annotated[Seconds, Doc("how long an import, and a worker's start, may take")] = 30.0
    stop_timeout: Annotated[Seconds, Doc("how long a worker may drain after TERM before it gets ABRT")] = 30.0
    kill_timeout: Annotated[Seconds, Doc("how long a worker may dump its stacks after ABRT before it gets KILL")] = 5.0
    restart: Annotated[RestartSpec, Doc("how soon a worker that died is replaced")] = RestartSpec()
    reload: Annotated[
        str, OneOf(("rolling", "signal", "restart")), Doc("how a reload replaces the workers")
    ] = "rolling"
    surge: Annotated[
        int, Unit("share"), AtLeast(1), Doc("workers above `workers` that a roll may have, or a percentage", "25%")
    ] = 1
    keepalive_timeout: Annotated[Seconds, Doc("how long an idle keep-alive connection is kept")] = 5.0
    header_timeout: Annotated[Seconds, Doc("how long a client may take to send a request head")] = 10.0
    request_line_limit: Annotated[Bytes, Doc("longest request line")] = 8190
    header_limit: Annotated[Bytes, Doc("longest request head, all its lines together")] = 65536
    body_limit: Annotated[Bytes, Doc("longest request body; 0: no limit")] = 0
    backlog: Annotated[int, AtLeast(1), Doc("connections the kernel queues before they are accepted")] = 2048


class Config(NamedTuple):
    """A whole configuration: what the launcher itself needs, and its services in the order of the file."""

    runtime_dir: str
    log_level: str = "info"
    services: tuple[ServiceSpec, ...] = ()
