"""The lines of the access log, for people and as JSON objects: whatever a client sends, it can forge none."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from json.encoder import encode_basestring_ascii as quoted  # `dumps` of a mapping takes five times as long
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Entry = tuple[Any, ...]
    """What is known of one request, in this order; None, or an empty text, where it is not known.

    When it began (monotonic seconds), the seconds it took, the status, the bytes of the body that were sent, whether it
    failed; as the client or a proxy gave them: its address, the user, method, target, protocol, referer and user
    agent; the request id.
    """

_TEXTS = 5  # where, in an entry, those begin that may be long
_ODD = {*range(0x20), *b'"\\', *range(0x7F, 0x100)}
_ESCAPED = [f"\\x{code:02X}" if code in _ODD else chr(code) for code in range(0x100)]
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DOTS = "..."
_TEXT = {str, type(None)}


class Lines(ABC):
    """Writes entries as lines of at most `limit` characters, all of them ASCII; subclasses know how they look."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._second = -1
        self._stamp = ""

    def line(self, entry: Entry, offset: float) -> bytes:
        """Return one line; `offset` is what makes a time of the wall clock of a monotonic one.

        Of one that would be too long the longest texts are cut, and end with dots. What an application has left in its
        environ that is no text is not known.
        """
        at = entry[0] + offset
        known, texts = entry[:_TEXTS], entry[_TEXTS:]
        if not _TEXT.issuperset(map(type, texts)):
            texts = tuple(map(_text, texts))
        room = self.limit
        line = self._line((*known, *_cut(texts, room)), at)
        while len(line) > self.limit:
            # What is escaped gives more room than this, so that too much may go. But to try with a little less each
            # time would take long, and clients choose what there is to escape.
            room = max(room // 2, room - (len(line) - self.limit))
            line = self._line((*known, *_cut(texts, room)), at)
        return line.encode("ascii")

    @abstractmethod
    def _line(self, entry: Entry, at: float) -> str:
        """Return it however long; `at` is when the request began, in seconds since 1970."""


class TextLines(Lines):
    """The combined log format of Apache and nginx, with the duration and the request id; escaped as nginx does."""

    def _line(self, entry: Entry, at: float) -> str:
        _, seconds, status, sent, _, address, user, method, target, protocol, referer, agent, id_ = entry
        request = f"{method} {target} {protocol}" if method else target
        took = "-" if seconds is None else f"{seconds:.4f}"
        if not _is_plain(f"{request}{referer}{agent}"):
            request, referer, agent = map(self._escaped, (request, referer, agent))
        if user or not _is_plain(f"{address}{id_}", '"\\ '):
            address, user, id_ = (self._escaped(word).replace(" ", r"\x20") for word in (address, user, id_))
        return (
            f'{address or "-"} - {user or "-"} [{self._local_time(at)}] "{request or "-"}" {status} {sent} '
            f'"{referer or "-"}" "{agent or "-"}" {took} {id_ or "-"}\n'
        )

    def _escaped(self, value: object) -> str:
        text = str(value or "")
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:  # not from the wire, where each character is a byte
            raw = text.encode("utf-8", "surrogatepass")
        return "".join(map(_ESCAPED.__getitem__, raw))

    def _local_time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            there = time.localtime(second)
            month = _MONTHS[there.tm_mon - 1]  # `strftime` may know another language
            self._stamp = time.strftime(f"%d/{month}/%Y:%H:%M:%S %z", there)
        return self._stamp


class JsonLines(Lines):
    """One object a line, which names the service and its slot; what is not known is null."""

    def __init__(self, limit: int, service: str, slot: int | None) -> None:
        super().__init__(limit)
        self._end = f'"service":{quoted(service)},"slot":{"null" if slot is None else slot}'

    def _line(self, entry: Entry, at: float) -> str:
        _, seconds, status, sent, error, address, _, method, target, protocol, referer, agent, id_ = entry
        path, mark, query = str(target or "").partition("?")
        plain = _is_plain(f"{address}{method}{target}{protocol}{referer}{agent}{id_}")
        say = _in_quotes if plain else self._quoted
        return (
            f'{{"time":"{self._utc(at)}","remote_addr":{say(address)},"method":{say(method)},"path":{say(path)},'
            f'"query":{say(query) if mark else "null"},"protocol":{say(protocol)},"status":{status},"bytes":{sent},'
            f'"duration":{"null" if seconds is None else f"{seconds:.6f}"},"referer":{say(referer)},'
            f'"user_agent":{say(agent)},"request_id":{say(id_)},{self._end},"error":{"true" if error else "false"}}}\n'
        )

    def _quoted(self, value: object) -> str:
        if not value:
            return "null"
        text = str(value)
        return quoted(text if text.isascii() else _decoded(text))

    def _utc(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((at - second) * 1000):03d}Z"


def _text(value: object) -> str | None:
    """Return a plain text; of another object of the application's nobody knows what it does when it is asked."""
    return str.__str__(value) if issubclass(type(value), str) else None


def _cut(texts: tuple[str | None, ...], room: int) -> tuple[str | None, ...]:
    """Return texts of `room` characters together: of more the longest are cut to one length, and end with dots."""
    left, sizes = room, [len(text) for text in texts if text]
    if sum(sizes) <= room:
        return texts
    sizes.sort(reverse=True)
    while sizes[-1] * len(sizes) <= left:
        left -= sizes.pop()
    most = left // len(sizes)
    return tuple(text if text is None or len(text) <= most else text[: max(0, most - 3)] + _DOTS for text in texts)


def _is_plain(text: str, odd: str = '"\\') -> bool:
    """Return whether nothing of it is to be escaped, as nearly always."""
    return text.isascii() and text.isprintable() and not any(map(text.__contains__, odd))


def _in_quotes(value: object) -> str:
    return f'"{value}"' if value else "null"


def _decoded(text: str) -> str:
    """Return what bytes, each given as a character, mean as UTF-8; those that are none as escapes."""
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:  # not from the wire
        return text
    return raw.decode("utf-8", "backslashreplace")


_FIELD = {name: re.compile(rb"\n%b:[ \t]*([^\r\n]*)" % name, re.IGNORECASE) for name in (b"Referer", b"User-Agent")}


def refused(start: bytes) -> tuple[str, str, str, str, str]:
    """Return method, target, protocol, referer and user agent of a head that was refused, or of its beginning.

    Where the first line is no request line all of it is the target, and there is no method.
    """
    line = start.lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r").decode("latin-1")
    parts = line.split(" ")
    method, target, protocol = parts if len(parts) == 3 and parts[2].startswith("HTTP/") else ("", line, "")
    referer, agent = (_field(pattern, start) for pattern in _FIELD.values())
    return method, target, protocol, referer, agent


def _field(pattern: re.Pattern[bytes], start: bytes) -> str:
    found = pattern.search(start)
    return found[1].decode("latin-1").rstrip() if found else ""
