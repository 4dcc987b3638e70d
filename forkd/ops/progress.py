"""What stderr is told of an order that is waited for: a line that changes on a terminal, else a line for each news."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.log import STDERR, printable, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkd.control.protocol import Request

Picture = dict[str, Any]

# What a reload's last line says: whoever asked for it need not read it twice.
_SAID_AT_THE_END = {"config_refused", "reload_ended"}
_TROUBLE = {"warning", "error"}
_CLEAR = "\r\033[K"  # to the first column, and nothing right of it


def teller(request: Request, picture: Picture, ask: Callable[[], Picture]) -> Lines:
    """Return who tells how the order fares; `picture` was before it, `ask` gives the one of now."""
    if os.isatty(STDERR) and os.environ.get("TERM", "dumb") != "dumb":
        return ChangingLine(request, picture, ask)
    return Lines(request)


class Lines:
    """Tells each piece of news on lines of its own."""

    def __init__(self, request: Request) -> None:
        self._verb = request.verb

    def begin(self) -> None:
        """Take note that the order was accepted."""

    def tell(self, answer: dict[str, Any]) -> None:
        """Tell a piece of news, as far as people want to know it."""
        repeated = self._verb == "reload" and kind(answer) in _SAID_AT_THE_END
        if answer.get("level") != "debug" and not repeated:
            for line in str(answer.get("text")).splitlines():
                say(printable(f"{answer.get('origin')}: {line}"))

    def end(self) -> None:
        """Leave the cursor at the begin of a line."""


class ChangingLine(Lines):
    """Keeps one line that says how far the service is that moved last; what goes wrong stays above it."""

    def __init__(self, request: Request, picture: Picture, ask: Callable[[], Picture]) -> None:
        super().__init__(request)
        self._ask = ask
        self._tallies = {one["name"]: Tally(request.verb, one) for one in picture["services"]}

    def begin(self) -> None:
        """Learn what is wanted now."""
        self._learn()

    def tell(self, answer: dict[str, Any]) -> None:
        """Count what the news say."""
        if answer.get("level") in _TROUBLE:
            self.end()
            super().tell(answer)
        news = answer["news"]
        if kind(answer) == "imported":  # the configuration has been read by now
            self._learn()
        tally = self._tallies.get(news.get("service"))
        if tally is not None:
            tally.count(news)
            self._show(f"{news['service']}: {tally}")

    def end(self) -> None:
        """Take the line away."""
        say(_CLEAR, end="")

    def _learn(self) -> None:
        with contextlib.suppress(ForkdError):  # a launcher that ends: whoever follows the order is told soon
            for one in self._ask()["services"]:
                self._tallies.setdefault(one["name"], Tally(self._verb, one)).wanted = one["wanted"]

    def _show(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal went away
            # A line that is too long would wrap, and could not be taken back.
            width = os.get_terminal_size(STDERR).columns or 80
            say(_CLEAR + printable(text)[: width - 1], end="")


class Tally:
    """How many workers of one service are as the order wants them, as far as the news tell."""

    def __init__(self, verb: str, service: Picture) -> None:
        self._verb = verb
        self._living = {worker["id"] for worker in service["workers"]}
        self._had = len(self._living)
        ready = [worker for worker in service["workers"] if verb == "scale" and worker["phase"] == "ready"]
        self._ready = {worker["slot"]: worker["id"] for worker in ready}
        self.wanted = service["wanted"]

    def count(self, news: dict[str, Any]) -> None:
        """Take note of a piece of news of the service."""
        slot, id = news.get("slot"), news.get("id")
        if news["kind"] == "ready" and slot is not None:
            self._ready[slot] = id
        elif news["kind"] in {"draining", "exited"} and self._ready.get(slot) == id:
            del self._ready[slot]
        if news["kind"] == "exited":
            self._living.discard(id)

    def __str__(self) -> str:
        if self._verb == "stop":
            return f"{self._had - len(self._living)} of {self._had} workers stopped"
        if self._verb == "scale":
            return f"{len(self._ready)} workers ready, {self.wanted} wanted"
        # Jobs that are done by now are wanted no more.
        return f"{len(self._ready)} of {max(self.wanted, len(self._ready))} workers replaced"


def kind(answer: dict[str, Any]) -> object:
    """Return of which kind the news is."""
    news = answer["news"]
    return news.get("kind") if isinstance(news, dict) else None
