"""`forkd call`: an RPC from the shell, its arguments read as YAML and its result shown as YAML or JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import yaml

from forkd.config.substitution import substitute
from forkd.control.client import Client as Control
from forkd.errors import ForkdError, NotRunning, UsageError
from forkd.rpc.client import Client
from forkd.rpc.errors import NoSuchTopic, RemoteError, RpcError, Timeout, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "local"


class Call(NamedTuple):
    """What is to be called, as it was typed: `TOPIC.METHOD`, and `key=value` for each argument and of the context.

    `timeout` in seconds; `worker` as in `rpc.Client.prepare`, None for any.
    """

    method: str
    arguments: tuple[str, ...]
    context: tuple[str, ...]
    timeout: float
    worker: str | None
    version: str | None

    @property
    def topic(self) -> str:
        """The topic, if it names one."""
        return self.method.rpartition(".")[0]


class Way(NamedTuple):
    """How the call travels; the directory is of no meaning where that is not within this host."""

    transport: str
    runtime_dir: str


class _Ready(NamedTuple):
    """A call that can be made."""

    client: Client
    method: str
    arguments: dict[str, Any]


def call(what: Call, way: Way) -> Any:
    """Return what the method returns; raises ForkdError for a call that failed, UsageError for one that is no call.

    NotRunning, where nobody took the call and no launcher of this host answers either.
    """
    with _ready(what, way) as (client, method, arguments):
        return client.call(method, **arguments)


def cast(what: Call, way: Way) -> None:
    """Return when a worker has accepted the call; raises as `call`."""
    with _ready(what, way) as (client, method, arguments):
        client.cast(method, **arguments)


def fanout(what: Call, way: Way) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what each worker returned, and why each other has no result; raises as `call` where there is no worker."""
    with _ready(what, way) as (client, method, arguments):
        outcomes = client.fanout(method, **arguments)
        failures = {worker: found for worker, found in outcomes.items() if isinstance(found, RpcError)}
        if outcomes and all(isinstance(found, Timeout | WorkerLost) for found in outcomes.values()):
            _check_presence(way)
    results = {worker: found for worker, found in outcomes.items() if worker not in failures}
    return results, {worker: _sentence(what, error) for worker, error in failures.items()}


def url(typed: str) -> str:
    """Return the transport that was typed, with the variables of the environment that stand in it as `${NAME}`."""
    try:
        return substitute(typed, os.environ)
    except ValueError as error:
        raise UsageError(f"--transport: {error}") from None


def shown(result: Any, *, as_json: bool) -> str:
    """Return a result for people, or for programs. Bytes become text where JSON has no other place for them."""
    if as_json:
        return json.dumps(_for_json(result), ensure_ascii=False, default=str)
    if isinstance(result, str | UUID | Decimal):
        return str(result)
    text: str = yaml.dump(result, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Writes what travels and YAML has no type for as text."""


_Dumper.add_representer(None, lambda dumper, value: dumper.represent_str(str(value)))  # type: ignore[arg-type]  # None: of any other type


@contextmanager
def _ready(what: Call, way: Way) -> Iterator[_Ready]:
    """Give the call to be made, and turn what it raises into what a command says."""
    topic, _, method = what.method.rpartition(".")
    if not topic or not method:
        raise UsageError(f"expected TOPIC.METHOD, got {what.method!r}")
    arguments, context = (dict(map(_entry, texts)) for texts in (what.arguments, what.context))
    try:
        with Client(topic, way.transport, runtime_dir=way.runtime_dir) as client:
            yield _Ready(_prepared(client, what, context), method, arguments)
    except RemoteError as error:
        raise ForkdError(_sentence(what, error)) from error
    except (NoSuchTopic, Timeout, WorkerLost):
        _check_presence(way)
        raise


def _prepared(client: Client, what: Call, context: dict[str, Any]) -> Client:
    worker = int(what.worker) if what.worker is not None and what.worker.isdecimal() else what.worker
    try:
        return client.prepare(worker=worker, timeout=what.timeout, version=what.version, context=context)
    except ForkdError as error:
        raise UsageError(str(error)) from None


def _sentence(what: Call, error: Exception) -> str:
    return f"{what.method} raised {error}" if isinstance(error, RemoteError) else str(error)


def _check_presence(way: Way) -> None:
    """Raise NotRunning where the call was for this host and no launcher runs; one that we may not control does."""
    if way.transport != LOCAL:
        return
    try:
        with Control(way.runtime_dir):
            return
    except NotRunning as error:
        raise error from None
    except ForkdError:
        return


def _entry(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UsageError(f"expected KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except RecursionError:
        raise UsageError(f"{key}: not valid YAML: it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 -- what has the form of a date, say, and is none, is not yaml's own error
        raise UsageError(f"{key}: not valid YAML: {' '.join(str(error).split())}") from None


def _for_json(value: Any) -> Any:
    """Return the same of what JSON has: times in ISO 8601, bytes, UUIDs and Decimals as text, these as keys, too."""
    if isinstance(value, dict):
        return {_for_json(key): _for_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_for_json(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dt.date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else value
