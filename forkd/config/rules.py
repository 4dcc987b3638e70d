"""What must hold between the keys of a service, and between services; single values are good when it is asked."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.config.addresses import LONGEST_UNIX_PATH, clash
from forkd.config.decode import spec_to
from forkd.config.merging import KEYS, resolve, server_kind
from forkd.config.order import order_breaches
from forkd.config.problems import Breach
from forkd.config.runtime_dir import health_socket
from forkd.core.spec import BUILT_IN, RestartSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_SPEC = 60_000  # bytes; it travels in one message of 64 KiB
_LARGEST_ID = 999_999_999  # of a worker: at a thousand a second, after eleven days
_NEEDED_PARTS = {
    ("healthcheck", "http"): 'missing; expected the path to ask for, as in "http: /healthz"',
    ("access_log", "file"): "missing; expected stdout, stderr or a path",
}
_NEEDED_BY_WSGI = {
    "app": 'missing; "server: wsgi" needs the application to serve',
    "bind": 'missing; "server: wsgi" needs an address to listen on',
}


class Draft(NamedTuple):
    """A service before it is a spec: the keys it sets itself, all its good values, the keys whose value is not good."""

    name: str
    written: frozenset[str]
    values: dict[str, Any]
    broken: frozenset[str]


def breaches(drafts: list[Draft], runtime_dir: str) -> Iterator[Breach]:
    """Yield every rule that is broken; rules about values that are not good are left."""
    for draft in drafts:
        if draft.name in BUILT_IN:
            yield Breach(draft.name, None, "the name is that of a service of forkd's own; choose another one")
        yield from _server_breaches(draft)
        yield from _restart_breaches(draft)
        yield from _topic_breaches(draft, runtime_dir)
        yield from _size_breaches(draft)
        yield from _healthcheck_breaches(draft, runtime_dir)
        yield from _missing_parts(draft)
    yield from order_breaches({draft.name: draft.values.get("after", ()) for draft in drafts})
    yield from _address_breaches(drafts)
    yield from _same_topic(drafts)


def _server_breaches(draft: Draft) -> Iterator[Breach]:
    if "server" in draft.broken:
        return
    if "server" not in draft.values:
        if "command" not in draft.written:
            yield Breach(draft.name, "server", 'missing; expected "wsgi" or "package.module:ServerSubclass"')
        return
    kind = server_kind(draft.values["server"])
    for key in KEYS:
        only_with = KEYS[key].traits.only_with
        if key in draft.written and only_with not in ("", kind):
            needed = '"server: wsgi"' if only_with == "wsgi" else 'a server of your own, not with "server: wsgi"'
            yield Breach(draft.name, key, f"makes sense only with {needed}")
    yield from _needs_breaches(draft, kind)


def _needs_breaches(draft: Draft, kind: str) -> Iterator[Breach]:
    if kind == "wsgi":
        for key, text in _NEEDED_BY_WSGI.items():
            if not draft.values.get(key) and key not in draft.broken:
                yield Breach(draft.name, key, text)
    elif "topic" not in draft.values and "topic" not in draft.broken:
        for key in sorted({"allow", "transport", "call_queue"} & draft.written - draft.broken):
            yield Breach(draft.name, key, 'makes sense only with "topic"')
    elif "allow" in draft.written - draft.broken and draft.values.get("transport", "local") != "local":
        yield Breach(draft.name, "allow", 'makes sense only with "transport: local"; a broker has users of its own')


def _restart_breaches(draft: Draft) -> Iterator[Breach]:
    restart = RestartSpec(**draft.values.get("restart", {}))
    if not draft.broken & {"restart", "restart.delay", "restart.max_delay"} and restart.delay > restart.max_delay:
        text = f"expected at most max_delay, which is {restart.max_delay:g}s, got {restart.delay:g}s"
        yield Breach(draft.name, "restart", text, ("delay",))


def _missing_parts(draft: Draft) -> Iterator[Breach]:
    for (key, part), text in _NEEDED_PARTS.items():
        given = key in draft.values and key not in draft.broken
        if given and f"{key}.{part}" not in draft.broken and not draft.values[key].get(part):
            yield Breach(draft.name, key, text, (part,))


def _healthcheck_breaches(draft: Draft, runtime_dir: str) -> Iterator[Breach]:
    if "healthcheck" not in draft.values or "healthcheck" in draft.broken:
        return
    if (over := _excess(health_socket(runtime_dir, _LARGEST_ID))) > 0:
        text = f"its sockets do not fit below the runtime directory {runtime_dir}, which is too long by {over} bytes"
        yield Breach(draft.name, "healthcheck", text)


def _topic_breaches(draft: Draft, runtime_dir: str) -> Iterator[Breach]:
    topic = draft.values.get("topic")
    if topic is None or server_kind(draft.values.get("server", "")) == "wsgi":
        return
    if draft.values.get("transport", "local") != "local":
        return
    # The slots of a roll come on top of `workers`; four digits have room for all there can be.
    if (over := _excess(f"{runtime_dir}/rpc/{topic}/9999.sock")) > 0:
        yield Breach(
            draft.name, "topic", f"too long by {over} bytes for a socket below the runtime directory {runtime_dir}"
        )


def _excess(path: str) -> int:
    """Return by how many bytes a path is too long for a socket."""
    return len(os.fsencode(path)) - LONGEST_UNIX_PATH


def _size_breaches(draft: Draft) -> Iterator[Breach]:
    if draft.broken or "server" not in draft.values:
        return
    size = len(json.dumps(spec_to(resolve(draft.name, draft.values))))
    if size > LARGEST_SPEC:
        yield Breach(draft.name, None, f"too large: its settings take {size} bytes as JSON, {LARGEST_SPEC} are allowed")


def _address_breaches(drafts: list[Draft]) -> Iterator[Breach]:
    taken: list[tuple[str, str]] = []
    for draft in drafts:
        if server_kind(draft.values.get("server", "")) != "wsgi" or "bind" in draft.broken:
            continue
        for number, address in enumerate(draft.values.get("bind", ())):
            first = next((name for other, name in taken if clash(address, other)), None)
            if first is not None:
                text = f"{address} is taken by {'this service' if first == draft.name else f'services.{first}'} already"
                yield Breach(draft.name, "bind", text, (number,))
            taken.append((address, draft.name))


def _same_topic(drafts: list[Draft]) -> Iterator[Breach]:
    taken: dict[str, str] = {}
    for draft in drafts:
        topic = draft.values.get("topic")
        if topic is None or server_kind(draft.values.get("server", "")) == "wsgi":
            continue
        if topic in taken:
            yield Breach(draft.name, "topic", f'"{topic}" is taken by services.{taken[topic]} already')
        taken.setdefault(topic, draft.name)
