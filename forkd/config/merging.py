"""A service's own keys over those of `defaults`, and units that depend on other keys; it judges nothing."""

from __future__ import annotations

import json
import os
from typing import Any

from forkd.config.decode import spec_from
from forkd.config.fields import Field, is_spec
from forkd.config.shape import keys_of
from forkd.core.spec import ServiceSpec

GREEN_THREADS, NATIVE_THREADS = 1000, 32
KEYS = keys_of(ServiceSpec)
_MERGED = ("environment", "limits", "secrets")


def merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a service's keys with those of `defaults` that it leaves out.

    Mappings of known keys and those in _MERGED are merged key by key. Defaults that make no sense with the service's
    server are left.
    """
    kind = server_kind(str(own.get("server", defaults.get("server", ""))))
    merged = {key: value for key, value in defaults.items() if KEYS[key].traits.only_with in ("", kind)}
    for key, value in own.items():
        both = key in merged and _is_merged(KEYS[key])
        merged[key] = {**merged[key], **value} if both else value
    return merged


def server_kind(server: str) -> str:
    """Return `wsgi`, `own`, or nothing where the server is not known."""
    return "wsgi" if server == "wsgi" else "own" if server else ""


def resolve(name: str, merged: dict[str, Any]) -> ServiceSpec:
    """Return the spec of merged keys, which fit together: no `auto`, no percentage, no default to be guessed."""
    known = {key: value for key, value in merged.items() if key in ServiceSpec._fields}
    workers = known.get("workers", 1)
    if workers == "auto":
        workers = len(set(known.get("cpu_affinity", ())) or os.sched_getaffinity(0))
    green = known.get("concurrency", "eventlet") == "eventlet"
    threads = known.get("threads", GREEN_THREADS if green else NATIVE_THREADS)
    surge = share(known.get("surge", 1), workers)
    document = {**known, "name": name, "workers": workers, "threads": threads, "surge": surge}
    return spec_from(json.loads(json.dumps(document)))  # only plain values leave here, none that knows its text


def share(value: int | str, of: int) -> int:
    """Return a number, or a percentage `of` so many, rounded up; at least 1."""
    if isinstance(value, int):
        return value
    return max(1, -(-of * int(value.removesuffix("%")) // 100))


def _is_merged(field: Field) -> bool:
    return is_spec(field.type) or field.name in _MERGED
