"""Says news in words, the same for the log and for the clients; the sentences stand in `kinds`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkd.control.kinds import KINDS

if TYPE_CHECKING:
    from forkd.core.state import News

_STARTED = {"imported", "ready"}
_ENDS = {"import_failed", "failed", "exited"}


class Line(NamedTuple):
    """A piece of news for people: how much it matters, whom it is about (`shop/0`, `shop`, `launcher`), and what."""

    level: str
    origin: str
    text: str


class Chronicle:
    """Says news for a log, whose reader is not to drown in the tries of one service.

    A failure that stays the same from try to try is told the first, second, fourth, eighth … time, and in between for
    `debug` alone. After a start or a reload it is told anew.
    """

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], tuple[str | None, int]] = {}  # of whom and of what kind: why, how often

    def say(self, news: News) -> Line:
        """Return the news in words."""
        line = say(news)
        if news.kind == "reload_started":
            self._failures.clear()
        elif news.kind in _STARTED:
            for kind in _ENDS:
                self._failures.pop((line.origin, kind), None)
        elif news.kind in _ENDS and not news.ok:
            return self._counted(line, news)
        return line

    def _counted(self, line: Line, news: News) -> Line:
        key = line.origin, news.kind
        why, count = self._failures.get(key, (None, 0))
        count = count + 1 if why == news.text else 1
        self._failures[key] = news.text, count
        if count == 1:
            return line
        told = count & (count - 1) == 0
        return line._replace(level=line.level if told else "debug", text=f"{line.text.rstrip()} ({count} times so far)")


def say(news: News) -> Line:
    """Return the news in words; `text` has several lines where a traceback or stacks came along."""
    level, text = _said(news)
    if news.stacks:
        text = f"{text}\n{news.stacks}"
    if news.service is None:
        return Line(level, "launcher", text)
    return Line(level, news.service if news.slot is None else f"{news.service}/{news.slot}", text)


def _said(news: News) -> tuple[str, str]:
    if news.pid is None and news.kind in _ENDS:
        return _never_ran(news)
    kind = KINDS[news.kind]
    level, sentence = kind.badly if kind.badly and not news.ok else (kind.level, kind.sentence)
    who = f"zygote pid {news.pid}" if news.slot is None else f"pid {news.pid}"
    return level, sentence.format(**news._asdict(), who=who)


def _never_ran(news: News) -> tuple[str, str]:
    """Say of what never was a process why not; once, at its end, which comes at once and has the reason."""
    if news.kind != "exited":
        return "debug", f"failed: {news.text}"
    return ("info", f"not started: {news.text}") if news.ok else ("error", f"could not be started: {news.text}")
