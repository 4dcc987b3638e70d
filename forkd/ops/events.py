"""`forkd events`: prints what has happened and what happens, as lines of the log or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from forkd import log
from forkd.control import kinds
from forkd.errors import ForkdError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forkd.control.client import Client
    from forkd.control.protocol import Request


def show(client: Client, request: Request, *, as_json: bool) -> None:
    """Print the news that are asked for; those that are followed, until the launcher stops.

    Raises ForkdError when it goes away before it has told the others.
    """
    lines = _objects if as_json else _texts
    for answer in client.follow(request):
        if "ended" in answer and not request.follow:
            return
        for line in lines(answer):
            print(line, flush=request.follow)
    if not request.follow:
        raise ForkdError("events: the launcher went away before it had told all")
    log.say("forkd: the launcher has stopped")


def _texts(answer: dict[str, Any]) -> Iterable[str]:
    if "lost" in answer:
        log.say(f"forkd: {answer['lost']} events lost: nobody read them in time")
    elif "news" in answer:
        head = log.head(answer["at"], answer["level"], answer["origin"])
        yield from (head + log.printable(line) for line in answer["text"].splitlines() or [""])


def _objects(answer: dict[str, Any]) -> Iterable[str]:
    if "lost" in answer:
        yield json.dumps(answer)
    elif "news" in answer:
        news = answer.pop("news")
        yield json.dumps({"kind": news["kind"], **answer, **kinds.fields(news)})
