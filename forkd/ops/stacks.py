"""`forkd stacks`: asks workers what each of their threads is at, and waits until the launcher tells of all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from forkd.control.protocol import Request
from forkd.core.commands import STACKS
from forkd.core.stacks import ANSWER, DUMPED
from forkd.errors import ForkdError
from forkd.log import printable
from forkd.ops import orders, progress

if TYPE_CHECKING:
    from forkd.control.client import Client

PATIENCE = ANSWER + DUMPED + 1.5  # seconds in which the launcher has told of a worker, even of one that is stuck


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


def gather(client: Client, slot: int | None, workers: list[Stacks]) -> list[Stacks]:
    """Ask a service's workers, all or those of `slot`, and return them with their stacks as the news bring them.

    Raises ForkdError when they cannot be asked.
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
    return [one._replace(stacks=found.get(one.id)) for one in workers]


def shown(one: Stacks) -> str:
    """Return a worker's stacks for people."""
    text = one.stacks or "no stacks: it does not answer, and has dumped none"
    return "\n".join([f"{one.service}/{one.slot} pid {one.pid}", *map(printable, text.splitlines())])
