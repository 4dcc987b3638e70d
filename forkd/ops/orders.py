"""`forkd reload`, `restart` and `stop`: give the order, tell how it goes on stderr, return how it ended."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.log import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.control.client import Client
    from forkd.control.protocol import Request

_QUIET = {"debug"}
# What a reload's last line says: whoever asked for it need not read it thrice.
_SAID_AT_THE_END = {"config_refused", "reload_ended"}


def check_config(request: Request, picture: dict[str, Any], path: str) -> None:
    """Raise ForkdError when the launcher that `path` leads to runs another file, which the order would be about."""
    theirs = picture["forkd"]["config"]
    if os.path.realpath(path) != os.path.realpath(theirs):
        raise ForkdError(f"{request.verb} failed: the launcher that {path} leads to runs {theirs}: name that one")


def check_service(request: Request, picture: dict[str, Any], configured: Callable[[str], set[str]]) -> None:
    """Raise ForkdError for a service that the launcher has not, so that it need not be asked.

    A reload may name one that is only in the configuration by now: `configured` gives the names in a file.
    """
    names = [one["name"] for one in picture["services"]]
    if request.service is None or request.service in names:
        return
    try:
        if request.verb == "reload" and request.service in configured(picture["forkd"]["config"]):
            return
    except ForkdError:  # it is for the launcher to read and to refuse; here it may look otherwise
        return
    there = ", ".join(names) or "none"
    raise ForkdError(f"{request.verb} failed: no service is named {request.service!r}; there are: {there}")


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
            _tell(answer, request)
    if not (over or stops_all):
        raise ForkdError(f"{request.verb}: the launcher went away before it was done")


def _judge(answer: dict[str, Any], request: Request) -> None:
    if not answer.get("ok"):
        raise ForkdError(f"{request.verb} failed: {answer.get('text') or 'nobody said why'}")


def _tell(answer: dict[str, Any], request: Request) -> None:
    repeated = request.verb == "reload" and answer.get("level") == "error" and _kind(answer) in _SAID_AT_THE_END
    if answer.get("level") not in _QUIET and not repeated:
        for line in str(answer.get("text")).splitlines():
            print(printable(f"{answer.get('origin')}: {line}"), file=sys.stderr, flush=True)


def _kind(answer: dict[str, Any]) -> object:
    news = answer["news"]
    return news.get("kind") if isinstance(news, dict) else None
