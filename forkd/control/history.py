"""The news so far, for those who come later; no more of them than the launcher can spare the memory for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from forkd.control import protocol, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.core.state import News

KEPT = 1000  # pieces of news
BYTES = 1024 * 1024  # of all their lines: those with stacks are long


class _Kept(NamedTuple):
    service: str | None
    line: bytes


class History:
    """The last news as clients get them, the oldest first: at most KEPT, in BYTES."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()
        self._size = 0
        self._count = 0

    def add(self, news: News, at: str) -> bytes:
        """Keep what happened at a time of day, and return its line."""
        self._count += 1
        line = protocol.news_line(self._count, at, news, words.say(news))
        self._kept.append(_Kept(news.service, line))
        self._size += len(line)
        while len(self._kept) > KEPT or self._size > BYTES:
            self._size -= len(self._kept.popleft().line)
        return line

    def of(self, service: str | None) -> Iterator[bytes]:
        """Yield the lines that concern a service (None: all of them); what concerns the launcher concerns everyone."""
        return (kept.line for kept in self._kept if service is None or kept.service in {service, None})
