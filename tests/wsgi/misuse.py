"""Applications that do what they should not: `app` calls the function that is named by the path."""

from __future__ import annotations

import gc
import threading
from typing import Any

TEXT = [("Content-Type", "text/plain")]
KEPT: dict[str, Any] = {}
FAILED = threading.Event()


def app(environ, start):
    return globals()[environ["PATH_INFO"].strip("/").replace("-", "_")](environ, start)


def fine(environ, start):
    start("200 OK", TEXT)
    return [b"fine"]


def attempt(fn, *args) -> str:
    """Return what became of a call."""
    try:
        return repr(fn(*args))
    except Exception as error:  # noqa: BLE001 -- it is told to the test
        return type(error).__name__


def fail_by_itself(environ, start):
    try:
        raise ValueError("the secret cause")
    except ValueError as error:
        raise error from error


def fail_in_a_circle(environ, start):
    first, second = ValueError("the secret cause"), KeyError()
    first.__context__, second.__cause__ = second, first
    raise first


def fail_without_an_environ(environ, start):
    environ.clear()
    raise RuntimeError("the secret cause")


def endless(environ, start):
    """Promise five bytes, and never end."""
    start("200 OK", [*TEXT, ("Content-Length", "5")])
    while True:
        yield b"12345678"


def endless_writes(environ, start):
    write = start("200 OK", [*TEXT, ("Content-Length", "5")])
    while True:
        write(b"12345678")


def empty_with_a_length(environ, start):
    start("204 No Content", [("X-Content-Length", "0"), ("Content-Length", "0"), ("X-Last", "1")])
    return []


def keep(environ, start):
    """Keep what belongs to this request alone; answer in chunks."""
    KEPT["write"], KEPT["input"] = start("200 OK", TEXT), environ["wsgi.input"]
    return iter([b"kept"])


def use(environ, start):
    """Tell what became of using that."""
    found = [attempt(KEPT["write"], b"smuggled"), attempt(KEPT["input"].read)]
    start("200 OK", TEXT)
    return [" ".join(found).encode()]


def read_twice(environ, start):
    """Read five bytes in each of two threads at once, and tell what they got."""
    found: list[str] = []

    def read() -> None:
        found.append(attempt(environ["wsgi.input"].read, 5))
        FAILED.set()

    other = threading.Thread(target=read)
    other.start()
    read()
    other.join()
    start("200 OK", TEXT)
    return [" ".join(sorted(found)).encode()]


def await_failure(environ, start):
    """Answer when one of them has ended, which is before the body comes."""
    assert FAILED.wait(30)
    return fine(environ, start)


class Speechless:
    """No text, and no way to make one of it."""

    def __str__(self) -> str:
        raise RuntimeError("it has nothing to say")

    def __bool__(self) -> bool:
        raise RuntimeError("nor to be asked")


class Name(str):
    """A text that says something else of itself."""

    def __str__(self) -> str:
        raise RuntimeError("it has nothing to say")

    __slots__ = ()


def odd_user(environ, start):
    environ["REMOTE_USER"] = environ["HTTP_USER_AGENT"] = environ["RAW_URI"] = Speechless()
    return fine(environ, start)


def named_user(environ, start):
    environ["REMOTE_USER"] = Name("ada")
    return fine(environ, start)


def give_way(phase, info):
    """Do what a finalizer may do, whenever garbage is collected."""
    threading.Event().wait(0.0001)


def litter(environ, start):
    """Answer with the query; have garbage collected at any moment from then on."""
    if give_way not in gc.callbacks:
        gc.callbacks.append(give_way)
        gc.set_threshold(3)
    start("200 OK", TEXT)
    return [environ["QUERY_STRING"].encode()]
