"""Every kind of news there is: what it carries, when it comes, how it is said. Scripts rely on the names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_ZYGOTE = ("service", "id", "pid", "generation")
_WORKER = ("service", "slot", "id", "pid", "generation")
_IN_SENTENCE = ("reason", "stacks")


class Kind(NamedTuple):
    """One kind of news: when it comes, which fields it carries, how much it matters and the sentence that says it.

    `badly` is level and sentence where `ok` is false.
    """

    when: str
    fields: tuple[str, ...]
    level: str
    sentence: str
    badly: tuple[str, str] | None = None


KINDS = {
    "zygote_started": Kind(
        "a zygote is a process", _ZYGOTE, "debug", "zygote of generation {generation} started, pid {pid}"
    ),
    "imported": Kind(
        "a zygote has imported the service's code",
        _ZYGOTE,
        "info",
        "generation {generation} imported, zygote pid {pid}",
    ),
    "import_failed": Kind(
        "the code cannot be imported; `reason` is the traceback",
        (*_ZYGOTE, "reason"),
        "error",
        "generation {generation} failed to import: {text}",
    ),
    "spawned": Kind("a worker is a process", _WORKER, "debug", "spawned, pid {pid}"),
    "ready": Kind("a worker serves", _WORKER, "info", "ready, pid {pid}, generation {generation}"),
    "failed": Kind(
        "a worker says why it cannot go on; `reason` is the traceback where there is one",
        (*_WORKER, "reason"),
        "error",
        "failed: {text}",
    ),
    "hung": Kind("a worker gives no sign of life; it is replaced", (*_WORKER, "reason"), "warning", "{text}"),
    "stacks": Kind(
        "a worker has shown what its threads are at; asked, or since it hangs",
        (*_WORKER, "stacks"),
        "info",
        "stacks:\n{text}",
    ),
    "unhealthy": Kind(
        "a worker has failed its healthcheck too often; it is replaced",
        (*_WORKER, "reason"),
        "warning",
        "unhealthy: {text}",
    ),
    "recycling": Kind(
        "a worker is to be replaced, as `recycle` or `request_timeout` wants it",
        (*_WORKER, "reason"),
        "info",
        "to be recycled: {text}",
    ),
    "draining": Kind("a worker stops of its own accord", _WORKER, "info", "draining, pid {pid}"),
    "exited": Kind(
        "a worker, or without `slot` a zygote, has ended; `ok`: as it was told to. "
        "Without `pid` it never was a process, which is an error",
        (*_WORKER, "ok", "reason", "stacks"),
        "info",
        "{who} exited: {text}",
        ("warning", "{who} exited: {text}"),
    ),
    "waiting": Kind("a service waits for those that it comes `after`", ("service", "reason"), "info", "{text}"),
    "scaled": Kind("another number of workers is wanted", ("service", "reason"), "info", "{text}"),
    "refused": Kind("what a signal asks for (TTIN, TTOU) cannot be done", ("reason",), "warning", "refused to {text}"),
    "rolled": Kind(
        "a new generation serves alone", ("service", "generation"), "info", "generation {generation} serves"
    ),
    "rolled_back": Kind(
        "the new generation cannot serve, and the old one serves on",
        ("service", "generation", "reason"),
        "error",
        "rolled back to generation {generation}: {text}",
    ),
    "service_failed": Kind(
        "a service has failed too often (`max_restarts`) and stays down",
        ("service", "reason"),
        "error",
        "failed for good: {text}",
    ),
    "config_refused": Kind(
        "the configuration has mistakes, and nothing changes; `reason` has a line for each",
        ("reason",),
        "error",
        "configuration refused: {text}",
    ),
    "reload_started": Kind("a reload begins", (), "info", "reload started"),
    "reload_ended": Kind(
        "a reload is over; `ok`: every service has its new generation",
        ("generation", "ok", "reason"),
        "info",
        "reload done",
        ("error", "reload failed: {text}"),
    ),
    "stopping": Kind("everything is told to stop", (), "info", "stopping"),
    "ended": Kind(
        "a command's request is over; in the log alone, since the command itself is told",
        ("ticket", "ok", "reason"),
        "debug",
        "request {ticket} done",
        ("debug", "request {ticket} failed: {text}"),
    ),
}


def fields(news: Mapping[str, Any]) -> dict[str, Any]:
    """Return what news carry by the names that programs get, to whom `text` is the sentence."""
    found = {key: value for key, value in news.items() if value is not None and key not in {"kind", "text"}}
    if (text := news.get("text")) is not None:
        found["stacks" if news["kind"] == "stacks" else "reason"] = text
    return found


def labels(news: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a piece of news what tells it apart in the log, where its sentence says the rest."""
    return {"kind": news["kind"], **{key: value for key, value in fields(news).items() if key not in _IN_SENTENCE}}
