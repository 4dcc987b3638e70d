"""`forkd status`: the launcher's picture with what /proc knows of the workers, as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.ops import proc, table

if TYPE_CHECKING:
    from collections.abc import Iterable

# A service that reloads still serves; one that an operator stopped is as wanted.
_AS_WANTED = {"running", "reloading", "stopped"}
_COLOURS = {
    "running": "green",
    "ready": "green",
    "starting": "yellow",
    "reloading": "yellow",
    "stopping": "yellow",
    "degraded": "red",
    "backoff": "red",
    "failed": "red",
    "killed": "red",
}
# Workers whose proportional memory is told unasked: the kernel takes a third of a millisecond for each, and more for
# a large one.
_MOST_SHARES = 200
_SERVICE_HEADS = ("SERVICE", "STATE", "READY", "GEN", "RESTARTS", "LISTEN")
_WORKER_HEADS = (
    *("WORKER", "PID", "PHASE", "GEN", "UPTIME", "RESTARTS", "BEAT", "REQUESTS", "ACTIVE", "ERRORS"),
    *("RSS", "PSS", "CPU", "FDS", "THREADS", "LAST EXIT"),
)
_CHECK_HEADS = ("WORKER", "HEALTH", "ANSWER")
_EXIT_HEADS = ("SLOT", "END", "EXITS")
_TASK_HEADS = ("TASK", "OK", "FAILED", "LATE", "SKIPPED", "LATENESS", "LAST RUN")


def complete(picture: dict[str, Any], service: str | None) -> dict[str, Any]:
    """Return the picture of `forkd status --json`: of one service or all, each worker with what /proc tells of it.

    Raises ForkdError when there is no such service.
    """
    chosen = [one for one in picture["services"] if service in {None, one["name"]}]
    if service is not None and not chosen:
        names = ", ".join(one["name"] for one in picture["services"]) or "none"
        raise ForkdError(f"no service is named {service!r}; there are: {names}")
    share = service is not None or sum(len(one["workers"]) for one in chosen) <= _MOST_SHARES
    for one in chosen:
        one["workers"] = [_completed(worker, picture["forkd"]["pid"], share=share) for worker in one["workers"]]
    return {"forkd": picture["forkd"], "services": chosen}


def as_wanted(picture: dict[str, Any]) -> bool:
    """Tell whether every service has what it is wanted to have."""
    return all(one["state"] in _AS_WANTED and one["ready"] >= one["wanted"] for one in picture["services"])


def lines(picture: dict[str, Any], paint: table.Paint) -> Iterable[str]:
    """Yield the picture as people read it; of a service that was asked for with tasks, health and last exits."""
    yield from _head(picture["forkd"])
    services = picture["services"]
    if services:
        yield ""
        yield from table.lines(_SERVICE_HEADS, [_service_row(one) for one in services], paint)
    for one in services:
        if one["error"]:
            yield f"{one['name']}: {table.one_line(one['error'])}"
    workers = [_worker_row(one["name"], worker) for one in services for worker in one["workers"]]
    if workers:
        yield ""
        yield from table.lines(_WORKER_HEADS, workers, paint)
    for one in services:
        if "slots" in one:
            yield from _details(one, paint)


def _details(service: dict[str, Any], paint: table.Paint) -> Iterable[str]:
    tasks = [_task_row(task) for task in service["totals"]["tasks"]]
    checks = [_check_row(service["name"], worker) for worker in service["workers"] if worker["health"] is not None]
    exits = [_exit_row(service["name"], slot["slot"], end) for slot in service["slots"] for end in slot["exits"]]
    for heads, rows in ((_TASK_HEADS, tasks), (_CHECK_HEADS, checks), (_EXIT_HEADS, exits)):
        if rows:
            yield ""
            yield from table.lines(heads, rows, paint)


def _completed(worker: dict[str, Any], parent: int, *, share: bool) -> dict[str, Any]:
    used = proc.usage(worker["pid"], parent, share=share) if worker["pid"] else proc.Usage()
    last_exit, tasks = worker.pop("last_exit"), worker.pop("tasks")
    cpu = None
    if used.cpu_seconds is not None and worker["uptime"] > 0:
        cpu = round(100 * used.cpu_seconds / worker["uptime"], 1)
    return {
        **worker,
        "rss": used.rss,
        "pss": used.pss,
        "cpu": cpu,
        "cpu_seconds": used.cpu_seconds,
        "fds": used.fds,
        "threads": used.threads,
        "last_exit": last_exit,
        "tasks": tasks,
    }


def _head(forkd: dict[str, Any]) -> Iterable[str]:
    yield (
        f"forkd {forkd['version']}, pid {forkd['pid']}: {forkd['state']} for {table.duration(forkd['uptime'])}, "
        f"generation {forkd['generation']}, {forkd['config']}"
    )
    last = forkd["last_reload"]
    if last is not None:
        yield f"last reload at {last['at']}: " + ("done" if last["ok"] else "failed")
        yield from (f"  {table.one_line(line)}" for line in (last["error"] or "").splitlines())


def _service_row(one: dict[str, Any]) -> list[table.Cell]:
    return [
        table.Cell(one["name"]),
        table.Cell(one["state"], _COLOURS.get(one["state"])),
        table.Cell(f"{one['ready']}/{one['wanted']}", right=True),
        table.number(one["generation"]),
        table.number(one["restarts"]),
        table.Cell(" ".join(one["listen"]) or "-"),
    ]


def _worker_row(service: str, worker: dict[str, Any]) -> list[table.Cell]:
    return [
        table.Cell(f"{service}/{worker['slot']}"),
        table.number(worker["pid"]),
        table.Cell(worker["phase"], _COLOURS.get(worker["phase"])),
        table.number(worker["generation"]),
        table.Cell(table.duration(worker["uptime"]), right=True),
        table.number(worker["restarts"]),
        table.Cell(table.duration(worker["heartbeat_age"]), right=True),
        table.number(worker["requests"]),
        table.number(worker["in_flight"]),
        table.number(worker["errors"]),
        table.Cell(table.size(worker["rss"]), right=True),
        table.Cell(table.size(worker["pss"]), right=True),
        table.Cell("-" if worker["cpu"] is None else f"{worker['cpu']:.1f}%", right=True),
        table.number(worker["fds"]),
        table.number(worker["threads"]),
        table.Cell(_exit(worker["last_exit"])),
    ]


def _task_row(task: dict[str, Any]) -> list[table.Cell]:
    return [
        table.Cell(table.one_line(task["name"])),
        table.number(task["ok"]),
        table.Cell(str(task["failed"]), "red" if task["failed"] else None, right=True),
        table.Cell(str(task["late"]), "yellow" if task["late"] else None, right=True),
        table.number(task["skipped"]),
        table.Cell(table.duration(task["lateness"]), right=True),
        table.Cell(task["last_run"] or "-"),
    ]


def _check_row(service: str, worker: dict[str, Any]) -> list[table.Cell]:
    health = worker["health"]
    return [
        table.Cell(f"{service}/{worker['slot']}"),
        table.Cell("well", "green") if health["ok"] else table.Cell(f"failures: {health['failures']}", "red"),
        table.Cell(table.one_line(health["text"]) or "-"),
    ]


def _exit_row(service: str, slot: int, end: dict[str, Any]) -> list[table.Cell]:
    how = end["signal"] or ("-" if end["code"] is None else str(end["code"]))
    return [table.Cell(f"{service}/{slot}"), table.Cell(how), table.Cell(_exit(end))]


def _exit(last: dict[str, Any] | None) -> str:
    if last is None:
        return "-"
    return f"{last['at']} {table.one_line(last['reason'])}"
