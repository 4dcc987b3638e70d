"""The commands' end of the control socket, against a real endpoint in another thread."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

from forkd import sockets
from forkd.control import client as client_module
from forkd.control.client import Client
from forkd.control.endpoint import Endpoint
from forkd.control.protocol import SOCKET, Request
from forkd.core.events import Stop
from forkd.core.state import News
from forkd.errors import ForkdError, NotRunning
from forkd.ops import orders, progress
from tests.waiting import until

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

PICTURE = {"forkd": {"state": "running"}, "services": []}


class Launcher:
    """A stand-in: `answer` says what becomes of an event, as news; a Stop of everything ends it."""

    def __init__(self, folder: pathlib.Path, answer: Callable[[Any], list[News]]) -> None:
        self.dir = str(folder)
        self.endpoint = Endpoint(sockets.listen(f"unix:{folder}/{SOCKET}", 64, 0o600), lambda _service: PICTURE)
        self.answer = answer
        self.events: list[Any] = []
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wake.close()
        self._thread.join(10)
        self._woken.close()

    def _run(self) -> None:
        with contextlib.closing(self.endpoint):
            while True:
                if self._woken.fileno() in select.select([self.endpoint.fileno(), self._woken.fileno()], [], [])[0]:
                    return
                for event in self.endpoint.turn():
                    self.events.append(event)
                    self.endpoint.tell(self.answer(event))
                    if isinstance(event, Stop) and event.service is None:
                        return


@pytest.fixture
def launcher(short_tmp: pathlib.Path) -> Iterator[Launcher]:
    def answer(event: Any) -> list[News]:
        ok = event.service != "bad"
        return [
            News("spawned", event.service or "shop", 0, 7, 12),
            News("failed", event.service or "shop", 0, 7, 12, text="KeyError: 'DSN'\n\x1b[31m"),
            News("ended", ticket=event.ticket, ok=ok, text=None if ok else "bad: it is"),
        ]

    with Launcher(short_tmp, answer) as running:
        yield running


def see_through(client: Client, request: Request) -> None:
    """Give an order and follow it, with plain lines on stderr."""
    orders.see_through(client, request, progress.Lines(request))


def test_status(launcher):
    with Client(launcher.dir) as client:
        assert client.status() == PICTURE


def test_an_order_is_followed_to_its_end(launcher, capsys):
    with Client(launcher.dir) as client:
        see_through(client, Request("reload", "shop"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["shop/0: failed: KeyError: 'DSN'", r"shop/0: \x1b[31m", "forkd: reload done"]


def test_an_order_that_fails_says_why(launcher):
    with Client(launcher.dir) as client, pytest.raises(ForkdError, match="restart failed: bad: it is"):
        see_through(client, Request("restart", "bad"))


def test_without_waiting_nothing_is_told(launcher, capsys):
    with Client(launcher.dir) as client:
        orders.give(client, Request("restart", "bad"))
    assert capsys.readouterr().err == ""
    until(lambda: len(launcher.events) == 1, what="the order")


def test_the_stop_of_everything_is_followed_until_the_launcher_is_gone(launcher, monkeypatch):
    # The stand-in lives in this very process, which does not end.
    monkeypatch.setattr(client_module, "_watch", lambda pid: None)
    with Client(launcher.dir) as client:
        see_through(client, Request("stop"))
    with pytest.raises(NotRunning):
        Client(launcher.dir)


def test_a_launcher_that_dies_leaves_no_order_undone_in_silence(short_tmp):
    listener = sockets.listen(f"unix:{short_tmp}/{SOCKET}", 1, 0o600)
    with Client(str(short_tmp)) as client:
        served, _ = listener.accept()
        served.sendall(b'{"accepted": 1}\n')
        served.close()
        with pytest.raises(ForkdError, match="went away"):
            see_through(client, Request("reload"))
    listener.close()


def test_a_refusal_is_an_error(short_tmp):
    listener = sockets.listen(f"unix:{short_tmp}/{SOCKET}", 1, 0o600)
    with Client(str(short_tmp)) as client:
        served, _ = listener.accept()
        served.sendall(b'{"error": "not you"}\n')
        served.close()
        with pytest.raises(ForkdError, match=r"^not you$"):
            client.status()
    listener.close()


def test_a_launcher_that_stands_still_is_told_of(short_tmp, monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT", 0.05)
    listener = sockets.listen(f"unix:{short_tmp}/{SOCKET}", 1, 0o600)
    with Client(str(short_tmp)) as client, pytest.raises(ForkdError, match="does not answer"):
        client.status()
    listener.close()


def test_nobody_there(short_tmp):
    for folder in (short_tmp, short_tmp / "missing"):
        with pytest.raises(NotRunning, match=f"no launcher is running on {folder}"):
            Client(str(folder))
    sockets.listen(f"unix:{short_tmp}/{SOCKET}", 1, 0o600).close()
    assert (short_tmp / SOCKET).exists()
    with pytest.raises(NotRunning):
        Client(str(short_tmp))


def test_a_strangers_socket_is_not_trusted(launcher, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(Client, "_peer", lambda self: (1, 4712, 1))
    with pytest.raises(ForkdError, match="belongs to user 4712"):
        Client(launcher.dir)
