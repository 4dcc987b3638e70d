"""Applications for the tests: `by_path` calls the function that is named by the first part of the path."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

GATES: dict[str, threading.Event] = {}
CLOSED: list[str] = []
HOARD: list[int] = []

TEXT = [("Content-Type", "text/plain")]


def by_path(environ, start):
    return VIEWS[environ["PATH_INFO"].split("/")[1]](environ, start)


def argument(environ) -> str:
    return environ["PATH_INFO"].split("/", 2)[2]


def gate(name: str) -> threading.Event:
    return GATES.setdefault(name, threading.Event())


def hello(environ, start):
    start("200 OK", [*TEXT, ("Content-Length", "13")])
    return [b"Hello, world!"]


def parts(environ, start):
    start("200 OK", TEXT)
    return [b"Hello, ", b"", b"world!"]


def sized(environ, start):
    body = b"x" * int(argument(environ))
    start("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def echo(environ, start):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]) if environ.get("CONTENT_LENGTH") else 10**9)
    start("200 OK", TEXT)
    return [body]


def lines(environ, start):
    start("200 OK", TEXT)
    return [json.dumps([line.decode() for line in environ["wsgi.input"]]).encode()]


def reads(environ, start):
    """Call what the query lists, such as `read:3,readline:,readlines:5`, and tell what each returned."""
    found: list[Any] = []
    for call in environ["QUERY_STRING"].split(","):
        name, _, size = call.partition(":")
        result = getattr(environ["wsgi.input"], name)(*([int(size)] if size else []))
        found.append([line.decode() for line in result] if isinstance(result, list) else result.decode())
    start("200 OK", TEXT)
    return [json.dumps(found).encode()]


def environ_(environ, start):
    start("200 OK", TEXT)
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str | bool)}).encode()]


def pieces(environ, start):
    start("200 OK", TEXT)
    return (piece for piece in (b"one ", b"", b"two ", b"three"))


def gated(environ, start):
    """Send "begun", wait until the gate is opened, and send "done"."""
    start("200 OK", TEXT)

    def answer():
        yield b"begun"
        assert gate(argument(environ)).wait(30)
        yield b"done"

    return answer()


def held(environ, start):
    """Send nothing until the gate is opened."""
    gate("held-" + argument(environ)).set()
    assert gate(argument(environ)).wait(30)
    start("200 OK", TEXT)
    return [b"let go"]


def busy(environ, start):
    """Give way to no other green thread for so many seconds."""
    until = time.monotonic() + float(argument(environ))
    while time.monotonic() < until:
        pass
    start("200 OK", TEXT)
    return [b"done"]


def await_held(environ, start):
    """Answer when a request for the same name is being held."""
    assert gate("held-" + argument(environ)).wait(30)
    start("200 OK", TEXT)
    return [b"held"]


def open_gate(environ, start):
    gate(argument(environ)).set()
    start("200 OK", TEXT)
    return [b"open"]


def write(environ, start):
    writer = start("200 OK", TEXT)
    writer(b"written ")
    return [b"and ", b"returned"]


def status(environ, start):
    """Answer with a status; where a second part of the path follows, with that as the body."""
    code, _, body = argument(environ).partition("/")
    headers = TEXT if body or code not in ("204", "304") else []
    start(f"{code} Whatever", headers)
    return [body.encode()] if body else []


def file(environ, start):
    wrapped = io.BytesIO(b"block" * 30000)
    start("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](wrapped, 8192)


def source(environ, start):
    path = Path(__file__)
    start("200 OK", [*TEXT, ("Content-Length", str(path.stat().st_size))])
    return environ["wsgi.file_wrapper"](path.open("rb"))


def fail(environ, start):
    raise RuntimeError("the secret cause")


def fail_started(environ, start):
    start("200 OK", TEXT)
    raise RuntimeError("the secret cause")


def fail_late(environ, start):
    start("200 OK", TEXT)

    def answer():
        yield b"the beginning"
        raise RuntimeError("the secret cause")

    return answer()


def fail_exit(environ, start):
    sys.exit("out")


def fork(environ, start):
    """Answer with what became of a new process, in which this ends as /fork/HOW says."""
    how = argument(environ)
    pid = os.fork()
    if pid:
        start("200 OK", TEXT)
        return [str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode()]
    if how == "fail":
        raise RuntimeError("in the new process")
    if how.startswith("exit"):
        sys.exit({"exit": None, "exit-3": 3, "exit-with-words": "words"}[how])
    start("200 OK", TEXT)
    return [b"answered twice"]


def exc_info(environ, start):
    start("200 OK", [*TEXT, ("X-First", "1")])
    try:
        raise ValueError("handled")
    except ValueError:
        start("500 Sorry", [*TEXT, ("X-Second", "2")], sys.exc_info())
    return [b"sorry"]


def exc_info_late(environ, start):
    def answer():
        start("200 OK", TEXT)
        yield b"begun"
        try:
            raise ValueError("too late")
        except ValueError:
            start("500 Sorry", TEXT, sys.exc_info())
        yield b"never"

    return answer()


def start_twice(environ, start):
    start("200 OK", TEXT)
    start("201 Created", TEXT)
    return [b"never"]


def never_start(environ, start):
    return [b"never"]


def promise(environ, start):
    """Promise a length and send another one: /promise/PROMISED/SENT."""
    promised, _, sent = argument(environ).partition("/")
    start("200 OK", [*TEXT, ("Content-Length", promised)])
    return (b"x" for _ in range(int(sent)))


def header(environ, start):
    name, value = json.loads(environ["HTTP_X_ANSWER"])
    start("200 OK", [*TEXT, (name, value)])
    return [b"answered"]


class Closing:
    """An iterable that tells when it is closed."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def __iter__(self):
        for _ in range(self.size):
            yield b"x" * 65536

    def close(self) -> None:
        CLOSED.append(self.name)
        gate("closed-" + self.name).set()


class Tidying:
    """An iterable that is not closed before a gate is opened."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __iter__(self):
        yield b"ok"

    def close(self) -> None:
        assert gate(self._name).wait(30)


def tidying(environ, start):
    """Answer "ok", and close when the gate of that name is open."""
    start("200 OK", [*TEXT, ("Content-Length", "2")])
    return Tidying(argument(environ))


def closing(environ, start):
    """Answer /closing/NAME/COUNT with that many blocks of 64 KiB."""
    name, _, count = argument(environ).partition("/")
    start("200 OK", TEXT)
    return Closing(name, int(count))


def closed(environ, start):
    """Answer when the iterable of that name was closed."""
    assert gate("closed-" + argument(environ)).wait(30)
    start("200 OK", TEXT)
    return [str(CLOSED.count(argument(environ))).encode()]


def swallow(environ, start):
    """Read the body, and answer even if that fails."""
    try:
        environ["wsgi.input"].read(10**9)
    except OSError:
        start("200 OK", TEXT)
        return [b"never"]
    start("200 OK", TEXT)
    return [b"fine"]


def ticking(environ, start):
    """Count the bytes of the body as they come, never holding more than a block of them."""
    total = 0
    while block := environ["wsgi.input"].read(8192):
        total += len(block)
    start("200 OK", TEXT)
    return [str(total).encode()]


def clock(environ, start):
    """Send a line with the time every 10 ms until the gate is opened."""
    start("200 OK", TEXT)

    def answer():
        while not gate(argument(environ)).wait(0.01):
            yield f"{time.monotonic()}\n".encode()

    return answer()


def hoard(environ, start):
    """Take so many descriptors, until the next call."""
    while HOARD:
        os.close(HOARD.pop())
    HOARD.extend(os.dup(0) for _ in range(int(argument(environ))))
    start("200 OK", TEXT)
    return [b"mine"]


VIEWS = {
    "await-held": await_held,
    "clock": clock,
    "closed": closed,
    "closing": closing,
    "echo": echo,
    "environ": environ_,
    "exc-info": exc_info,
    "exc-info-late": exc_info_late,
    "fail": fail,
    "fail-exit": fail_exit,
    "fork": fork,
    "busy": busy,
    "fail-late": fail_late,
    "fail-started": fail_started,
    "file": file,
    "gated": gated,
    "header": header,
    "held": held,
    "hello": hello,
    "hoard": hoard,
    "lines": lines,
    "never-start": never_start,
    "open": open_gate,
    "parts": parts,
    "pieces": pieces,
    "promise": promise,
    "reads": reads,
    "sized": sized,
    "source": source,
    "start-twice": start_twice,
    "status": status,
    "swallow": swallow,
    "ticking": ticking,
    "tidying": tidying,
    "write": write,
}


def target(environ, start):
    """Tell what the validator would not let pass."""
    start("200 OK", TEXT)
    return [f"{environ['REQUEST_METHOD']}|{environ['PATH_INFO']}".encode()]
