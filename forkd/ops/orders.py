"""`forkd reload`, `restart` and `stop`: give the order, tell how it goes on stderr, return how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.log import printable

if TYPE_CHECKING:
    from forkd.control.client import Client
    from forkd.control.protocol import Request

_QUIET = {"debug"}


def give(client: Client, request: Request, *, wait: bool) -> None:
    """Give an order and follow it to its end, or with `wait` false until it was accepted.

    Raises ForkdError, which says why, when it failed.
    """
    stops_all = request.verb == "stop" and request.service is None
    over = False
    for answer in client.follow(request):
        if "accepted" in answer and not wait:
            return
        if "ended" in answer:
            over = True
            _judge(answer, request)
        elif "news" in answer and not over:
            _tell(answer)
    if not (over or stops_all):
        raise ForkdError(f"{request.verb}: the launcher went away before it was done")


def _judge(answer: dict[str, Any], request: Request) -> None:
    if not answer.get("ok"):
        raise ForkdError(f"{request.verb} failed: {answer.get('text') or 'nobody said why'}")


def _tell(answer: dict[str, Any]) -> None:
    if answer.get("level") not in _QUIET:
        for line in str(answer.get("text")).splitlines():
            print(printable(f"{answer.get('origin')}: {line}"), file=sys.stderr, flush=True)
