"""`forkd stacks`: asks workers what each of their threads is at, and reads from their boards what a stuck one left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.control.protocol import Request
from forkd.core.commands import STACKS
from forkd.errors import ForkdError
from forkd.log import printable
from forkd.ops import orders, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forkd.control.client import Client

PATIENCE = 3.0  # seconds in which a worker that is not stuck has answered


class Stacks(NamedTuple):
    """The stacks of all threads of one worker, native and green; None where there are none to be had."""

    service: str
    slot: int
    id: int
    pid: int
    stacks: str | None


def asked(picture: dict[str, Any], service: str, slot: int | None) -> list[Stacks]:
    """Return the workers that will be asked: all of a service, or of one slot the ready one, else the newest.

    Raises ForkdError when none lives.
    """
    (found,) = [one for one in picture["services"] if one["name"] == service]
    workers = [one for one in found["workers"] if one["pid"] is not None and slot in {None, one["slot"]}]
    if slot is not None:
        workers = sorted(workers, key=lambda one: (one["phase"] == "ready", one["id"]))[-1:]
    if not workers:
        raise ForkdError(f"stacks failed: no worker of {service} lives")
    return [Stacks(service, one["slot"], one["id"], one["pid"], None) for one in workers]


def gather(client: Client, slot: int | None, workers: list[Stacks], look: Callable[[], Iterable[Any]]) -> list[Stacks]:
    """Ask a service's workers, all or those of `slot`, and return them with their stacks as the news bring them.

    What those have left that do not answer in time, `look` finds. Raises ForkdError when they cannot be asked.
    """
    request = Request("signal", workers[0].service, slot=slot, signal=STACKS, follow=True)
    found: dict[int, str | None] = {}
    waiting = {one.id for one in workers}
    for answer in client.follow(request, until=time.monotonic() + PATIENCE):
        if "ended" in answer:
            orders.judge(answer, request)
        elif "news" in answer and progress.kind(answer) in {"stacks", "exited"}:
            news = answer["news"]
            found[news["id"]] = news.get("text" if news["kind"] == "stacks" else "stacks")
            waiting.discard(news["id"])
        if not waiting:
            break
    if waiting:
        found |= {one["id"]: one["text"] for one in look() if one["id"] in waiting}
    return [one._replace(stacks=found.get(one.id)) for one in workers]


def shown(one: Stacks) -> str:
    """Return a worker's stacks for people."""
    text = one.stacks or "no stacks: it does not answer, and has left none"
    return "\n".join([f"{one.service}/{one.slot} pid {one.pid}", *map(printable, text.splitlines())])
