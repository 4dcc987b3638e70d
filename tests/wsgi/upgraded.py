"""Applications that take their connection: `by_path` calls the function named by the first part of the path.

They speak whatever is simplest: each takes the connection by a 101 of its own, and what follows are bytes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any

from tests.wsgi import apps
from tests.wsgi.apps import TEXT, Closing, argument, gate

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"
KEPT: list[Any] = []


def by_path(environ, start):
    name = environ["PATH_INFO"].split("/")[1]
    return (VIEWS.get(name) or apps.VIEWS[name])(environ, start)


def taken(environ) -> Any:
    sock = environ["forkd.socket"]
    sock.sendall(SWITCHING)
    return sock


def echo(environ, start):
    sock = taken(environ)
    while data := sock.recv(65536):
        sock.sendall(data)
    return []


def offered(environ, start):
    start("200 OK", TEXT)
    return [str("forkd.socket" in environ).encode()]


def late(environ, start):
    start("200 OK", TEXT)(b"begun ")
    try:
        environ["forkd.socket"].recv(1)
    except RuntimeError as error:
        return [str(error).encode()]
    return []


def keep(environ, start):
    KEPT.append(environ["forkd.socket"])
    start("200 OK", TEXT)
    return [b"kept"]


def use_kept(environ, start):
    """Use a socket whose request is over; tell what that gave."""
    sock = KEPT.pop()
    found = [sock.recv(10), sock.fileno()]
    for use in (lambda: sock.send(b"stray"), lambda: sock.shutdown(socket.SHUT_RDWR), sock.getpeername):
        try:
            use()
        except OSError as error:
            found.append(error.errno)
    sock.close()
    start("200 OK", TEXT)
    return [str(found).encode()]


def keep_taken(environ, start):
    KEPT.append(taken(environ))
    return []


def returns(environ, start):
    taken(environ).sendall(b"the end")
    start("200 OK", [*TEXT, ("Content-Length", "7")])
    return Closing(argument(environ), 3)


def generator(environ, start):
    start("200 OK", TEXT)
    taken(environ).sendall(b"from within")
    yield b"ignored"


def raises(environ, start):
    taken(environ).sendall(b"the end")
    raise RuntimeError("the secret cause")


def drops(environ, start):
    """End as engineio does, which Flask-SocketIO is made of."""
    taken(environ).sendall(b"the end")
    raise ConnectionError


def refused(environ, start):
    """Fail by a connection that is not the client's."""
    taken(environ)
    raise ConnectionRefusedError("the secret cause")


def full(environ, start):
    """Send to a client that takes nothing, and tell it that later."""
    sock = taken(environ)
    sock.settimeout(0.2)
    sent = 0
    try:
        while True:
            sent += sock.send(b"x" * 65536)
    except TimeoutError:
        gate("full").set()
    sock.settimeout(None)
    sock.sendall(f" {sent}".encode())
    return []


def closes(environ, start):
    sock = taken(environ)
    sock.sendall(b"the end")
    sock.close()
    sock.close()
    assert sock.fileno() == -1
    assert sock.recv(1) == b""
    assert gate(argument(environ)).wait(30)
    return []


def timeout(environ, start):
    sock = taken(environ)
    assert sock.gettimeout() is None
    sock.settimeout(0.05)
    try:
        sock.recv(1)
    except TimeoutError:
        sock.sendall(b"timed out, ")
    sock.setblocking(False)
    assert sock.gettimeout() == 0
    try:
        sock.recv(1)
    except BlockingIOError:
        sock.sendall(b"would block")
    return []


def names(environ, start):
    sock = taken(environ)
    own, peer = sock.getsockname(), sock.getpeername()
    buffer = bytearray(5)
    assert sock.recv_into(buffer, 3) == 3
    sock.sendall(f"{own[1]} {peer[1] == int(environ['REMOTE_PORT'])} {bytes(buffer[:3]).decode()}".encode())
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(100):
        pass
    return []


def large(environ, start):
    """Send so many bytes in one call, as to a socket that blocks."""
    sock = taken(environ)
    size = int(argument(environ))
    assert sock.send(b"x" * size) == size
    return []


def selector(environ, start):
    """Echo as `echo` does, but wait by a selector."""
    sock = taken(environ)
    with selectors.DefaultSelector() as watch:
        watch.register(sock, selectors.EVENT_READ)
        while watch.select(10) and (data := sock.recv(1000)):
            sock.sendall(data)
    return []


def push(environ, start):
    """Send a line whenever the gate of its number is opened."""
    sock = taken(environ)
    for number in range(3):
        assert gate(f"push-{number}").wait(30)
        gate(f"push-{number}").clear()
        sock.sendall(f"line {number}\n".encode())
    return []


def many_writers(environ, start):
    """Let four threads send blocks of a letter each, which must not be mixed."""
    sock = taken(environ)
    threads = [
        threading.Thread(target=lambda letter=letter: [sock.sendall(letter * 500_000) for _ in range(5)])
        for letter in (b"a", b"b", b"c", b"d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return []


def leaves_a_reader(environ, start):
    """Return while another thread reads; the gate opens when that has ended."""
    sock = taken(environ)
    begun = threading.Event()

    def read() -> None:
        begun.set()
        with contextlib.suppress(OSError):
            while sock.recv(100):
                pass
        gate(argument(environ)).set()

    threading.Thread(target=read).start()
    assert begun.wait(10)
    sock.sendall(b"the end")
    return []


def answers_elsewhere(environ, start):
    """Return as soon as another thread has received the client's last word, which it answers a moment later."""
    sock = taken(environ)
    received = threading.Event()

    def read() -> None:
        word = sock.recv(100)
        received.set()
        gate(argument(environ)).wait(0.3)
        sock.sendall(word)
        sock.close()

    threading.Thread(target=read).start()
    assert received.wait(10)
    return []


def ended(environ, start):
    """Answer when the gate was opened."""
    assert gate(argument(environ)).wait(30)
    start("200 OK", TEXT)
    return [b"ended"]


def stubborn(environ, start):
    """Heed no end."""
    sock = taken(environ)
    while sock.recv(100):
        pass
    gate("told").set()
    with contextlib.suppress(OSError):
        while not gate("never").wait(0.05):
            sock.sendall(b".")
    return []


VIEWS = {
    "answers-elsewhere": answers_elsewhere,
    "closes": closes,
    "drops": drops,
    "echo-bytes": echo,
    "ended": ended,
    "full": full,
    "generator": generator,
    "keep": keep,
    "keep-taken": keep_taken,
    "large": large,
    "late": late,
    "leaves-a-reader": leaves_a_reader,
    "many-writers": many_writers,
    "names": names,
    "offered": offered,
    "push": push,
    "raises": raises,
    "refused": refused,
    "returns": returns,
    "selector": selector,
    "stubborn": stubborn,
    "timeout": timeout,
    "use-kept": use_kept,
}
