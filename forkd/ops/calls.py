"""`forkd call`: an RPC from the shell, its arguments read as YAML and its result shown as YAML or JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import yaml

from forkd.control.client import Client as Control
from forkd.errors import ForkdError, NotRunning, UsageError
from forkd.rpc.client import Client
from forkd.rpc.errors import NoSuchTopic, RemoteError, Timeout, WorkerLost


class Call(NamedTuple):
    """What is to be called: `TOPIC.METHOD`, `key=value` for each argument, and seconds until it is given up."""

    method: str
    arguments: tuple[str, ...]
    timeout: float


def call(what: Call, runtime_dir: str) -> Any:
    """Return what the method returns; raises ForkdError for a call that failed, UsageError for one that is no call.

    NotRunning, where nobody took the call and no launcher answers either.
    """
    topic, _, method = what.method.rpartition(".")
    if not topic or not method:
        raise UsageError(f"expected TOPIC.METHOD, got {what.method!r}")
    arguments = dict(_argument(text) for text in what.arguments)
    try:
        with Client(topic, timeout=what.timeout, runtime_dir=runtime_dir) as client:
            return client.call(method, **arguments)
    except RemoteError as error:
        raise ForkdError(f"{what.method} raised {error}") from error
    except (NoSuchTopic, Timeout, WorkerLost):
        if (absence := _absence(runtime_dir)) is not None:
            raise absence from None
        raise


def shown(result: Any, *, as_json: bool) -> str:
    """Return a result for people, or for programs. Bytes become text where JSON has no other place for them."""
    if as_json:
        return json.dumps(result, ensure_ascii=False, default=_text)
    if isinstance(result, str):
        return result
    text: str = yaml.safe_dump(result, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


def _absence(runtime_dir: str) -> NotRunning | None:
    """Return the error that no launcher runs there; None where one does, if only one that we may not control."""
    try:
        with Control(runtime_dir):
            return None
    except NotRunning as error:
        return error
    except ForkdError:
        return None


def _argument(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UsageError(f"expected KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"{key}: not valid YAML: {' '.join(str(error).split())}") from None


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
