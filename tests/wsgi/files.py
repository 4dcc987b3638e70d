"""An application that sends a file: `/KIND?path=…` opens it in one of many ways, `/sent` tells how much sendfile(2) sent."""

# ruff: noqa: SIM115 -- the server closes what it is given

from __future__ import annotations

import fcntl
import gzip
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from django.core.files import File

from tests.wsgi import apps, sent

CLOSED: Counter[str] = Counter()


class Closing:
    """Counts how often a file is closed."""

    def __init__(self, path: str, close: Callable[[], None]) -> None:
        self._path = path
        self._close = close

    def __call__(self) -> None:
        CLOSED[self._path] += 1
        self._close()


class Shouting(io.BufferedReader):
    """Reads something else than what its descriptor has."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


class Named:
    """Has the descriptor of one file and the bytes of another, and nothing else."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")
        self._other = io.BytesIO(b"other bytes")
        self.fileno = self._file.fileno
        self.tell = self._file.tell
        self.read = self._other.read


def written(path: str) -> Any:
    """Return a file with changes that are in no buffer but its own."""
    file = open(path, "r+b")
    file.write(b"W")
    return file


def temporary(path: str) -> Any:
    file = tempfile.TemporaryFile()
    with open(path, "rb") as source:
        file.write(source.read())
    file.seek(0)
    return file


def read_into(path: str) -> Any:
    """Return a file whose descriptor stands elsewhere than the file does."""
    file = open(path, "rb")
    assert file.read(3)
    return file


def pipe(path: str) -> Any:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)  # takes it all at once
    with open(path, "rb") as source, open(writing, "wb") as sink:
        sink.write(source.read())
    return open(reading, "rb")


def at_its_end(path: str) -> Any:
    file = open(path, "rb")
    file.seek(0, os.SEEK_END)
    return file


def closed(path: str) -> Any:
    file = open(path, "rb")
    file.close()
    return file


def no_close(path: str) -> Any:
    """Return an object that can do nothing but read."""
    return type("Reader", (), {"read": staticmethod(open(path, "rb").read)})()


KINDS = {
    "at-its-end": at_its_end,
    "bytes": lambda path: io.BytesIO(open(path, "rb").read()),
    "closed": closed,
    "django": lambda path: File(open(path, "rb")),
    "gzip": lambda path: gzip.open(path, "rb"),
    "named": Named,
    "no-close": no_close,
    "open": lambda path: open(path, "rb"),
    "pipe": pipe,
    "raw": lambda path: open(path, "rb", buffering=0),
    "read-into": read_into,
    "shouting": lambda path: Shouting(io.FileIO(path)),
    "temporary": temporary,
    "text": open,
    "write-only": lambda path: open(path, "ab"),
    "written": written,
}


def app(environ, start):
    kind = environ["PATH_INFO"][1:]
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if kind == "sent":
        start("200 OK", apps.TEXT)
        return [str(sum(sent.TOTAL)).encode()]
    if kind == "closed-times":
        start("200 OK", apps.TEXT)
        return [str(CLOSED[query["path"]]).encode()]
    file: Any = KINDS[kind](query["path"])
    if kind == "open":
        file.close = Closing(query["path"], file.close)  # as Django does
    write = start(query.get("status", "200 OK"), [*apps.TEXT, *length(query)])
    if "before" in query:
        write(query["before"].encode())
    return environ["wsgi.file_wrapper"](file, 8192)


def length(query) -> list[tuple[str, str]]:
    return [("Content-Length", query["length"])] if "length" in query else []
