"""`forkd reload`, `restart`, `stop`, `scale` and `signal`: give the order, tell how it goes, return how it ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from forkd.errors import ForkdError
from forkd.log import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.control.client import Client
    from forkd.control.protocol import Request
    from forkd.ops.progress import Lines


def check_config(request: Request, picture: dict[str, Any], path: str) -> None:
    """Raise ForkdError when the launcher that `path` leads to runs another file, which the order would be about."""
    theirs = picture["forkd"]["config"]
    if os.path.realpath(path) != os.path.realpath(theirs):
        raise ForkdError(f"{request.verb} failed: the launcher that {path} leads to runs {theirs}: name that one")


def check_service(request: Request, picture: dict[str, Any], configured: Callable[[str], set[str]]) -> None:
    """Raise ForkdError for a service or a worker that the launcher has not, so that it need not be asked.

    A reload may name one that is only in the configuration by now: `configured` gives the names in a file.
    """
    names = [one["name"] for one in picture["services"]]
    if request.service is None:
        return
    if request.service in names:
        _check_slot(request, picture["services"][names.index(request.service)])
        return
    try:
        if request.verb == "reload" and request.service in configured(picture["forkd"]["config"]):
            return
    except ForkdError:  # it is for the launcher to read and to refuse; here it may look otherwise
        return
    there = ", ".join(names) or "none"
    raise ForkdError(f"{request.verb} failed: no service is named {request.service!r}; there are: {there}")


def _check_slot(request: Request, service: dict[str, Any]) -> None:
    slots = sorted({worker["slot"] for worker in service["workers"]})
    if request.slot is not None and request.slot not in slots:
        there = ", ".join(f"{request.service}/{slot}" for slot in slots) or "none"
        what = f"no worker is {request.service}/{request.slot}"
        raise ForkdError(f"{request.verb} failed: {what}; there are: {there}")


def give(client: Client, request: Request) -> None:
    """Give an order and return as soon as it is accepted."""
    next(client.follow(request), None)


def settle(client: Client, request: Request) -> None:
    """Give an order that is done at once, and of which nothing is to be told.

    Raises ForkdError, which says why, when it failed.
    """
    for answer in client.follow(request):
        if "ended" in answer:
            judge(answer, request)
            return
    _went_away(request)


def see_through(client: Client, request: Request, teller: Lines) -> None:
    """Give an order and follow it to its end, of which stderr is told.

    Raises ForkdError, which says why, when it failed.
    """
    try:
        _follow(client, request, teller)
    except KeyboardInterrupt:
        say(f"forkd: interrupted: the {request.verb} goes on; `forkd status` shows how")
        raise
    say(f"forkd: {request.verb} done")


def _follow(client: Client, request: Request, teller: Lines) -> None:
    over = request.verb == "stop" and request.service is None  # at its end the launcher goes away
    try:
        for answer in client.follow(request):
            if "accepted" in answer:
                teller.begin()
            elif "ended" in answer:
                over = True
                judge(answer, request)
            elif "news" in answer:
                teller.tell(answer)
    finally:
        teller.end()
    if not over:
        _went_away(request)


def judge(answer: dict[str, Any], request: Request) -> None:
    """Raise ForkdError when the last answer says that the order failed."""
    if not answer.get("ok"):
        raise ForkdError(f"{request.verb} failed: {answer.get('text') or 'nobody said why'}")


def _went_away(request: Request) -> NoReturn:
    raise ForkdError(f"{request.verb}: the launcher went away before it was done")
