"""What the service manager is told, by a socket that stands for it; times are made up."""

from __future__ import annotations

import contextlib
import re
import socket
import uuid

import pytest

from forkd.notify import EXTEND, Manager, Notifier, take_environment


class Systemd:
    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.setblocking(False)
        self.address = address
        self.notifiers: list[Notifier] = []

    def notifier(self, watchdog: float = 0.0, now: float = 0.0) -> Notifier:
        self.notifiers.append(Notifier(Manager(self.address, watchdog), now))
        return self.notifiers[-1]

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request, short_tmp):
    systemd = Systemd(str(short_tmp / "notify") if request.param == "path" else f"\0forkd-test-{uuid.uuid4().hex}")
    yield systemd
    systemd.sock.close()
    for notifier in systemd.notifiers:
        notifier.close()


def test_the_environment_is_read_and_cleared(short_tmp):
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "12", "PATH": "/bin"}
    assert take_environment(environ, 12) == Manager("\0x", 1.5)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "manager"),
    [
        ({}, Manager("", 0)),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, Manager("", 0)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000"}, Manager("/x", 1)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "13"}, Manager("/x", 0)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, Manager("/x", 0)),
    ],
)
def test_what_is_not_for_us_is_not_heeded(environ, manager):
    assert take_environment(environ, 12) == manager


def test_a_life(systemd):
    notifier = systemd.notifier(now=100.0)
    notifier.tick(100.0)
    assert systemd.heard() == [f"EXTEND_TIMEOUT_USEC={int(EXTEND * 1e6)}"]
    notifier.observe("starting", "0 of 2")
    notifier.tick(101.0)
    assert systemd.heard() == ["STATUS=0 of 2"]
    notifier.observe("running", "2 of 2")
    notifier.tick(102.0)
    assert systemd.heard() == ["READY=1\nSTATUS=2 of 2"]
    assert notifier.deadline() is None
    notifier.observe("reloading", "2 of 2")
    notifier.tick(200.0)
    reloading, monotonic, extend = systemd.heard()[0].splitlines()
    assert (reloading, extend) == ("RELOADING=1", f"EXTEND_TIMEOUT_USEC={int(EXTEND * 1e6)}")
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", monotonic)
    assert notifier.deadline() == 200.0 + EXTEND / 2
    notifier.observe("running", "2 of 2")
    notifier.tick(201.0)
    assert systemd.heard() == ["READY=1"]
    notifier.observe("stopping", "draining\n2 workers")
    notifier.tick(300.0)
    assert systemd.heard() == [f"STOPPING=1\nSTATUS=draining 2 workers\nEXTEND_TIMEOUT_USEC={int(EXTEND * 1e6)}"]
    notifier.tick(300.0 + EXTEND / 2)
    assert systemd.heard() == [f"EXTEND_TIMEOUT_USEC={int(EXTEND * 1e6)}"]
    notifier.close()
    notifier.tick(400.0)
    assert systemd.heard() == []


def test_a_reload_within_a_reload_is_said_again(systemd):
    notifier = systemd.notifier()
    notifier.observe("reloading", "")
    notifier.tick(0.0)
    notifier.repeat()
    notifier.tick(1.0)
    assert [message.startswith("RELOADING=1\nMONOTONIC_USEC=") for message in systemd.heard()] == [True, True]


def test_signs_of_life_come_when_they_are_due_and_not_before(systemd):
    notifier = systemd.notifier(watchdog=1.0)
    notifier.observe("running", "")
    heard = []
    for now in (0.0, 0.4, 1.0, 1.2, 5.0):
        notifier.tick(now)
        heard.append("".join(systemd.heard()).count("WATCHDOG=1"))
    assert heard == [1, 0, 1, 0, 1]
    assert notifier.deadline() == 6.0


def test_what_a_full_queue_refuses_is_said_later(systemd):
    notifier = systemd.notifier()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", systemd.address)
    notifier.observe("running", "all well")
    notifier.tick(1.0)
    due = notifier.deadline()
    assert due is not None
    assert 1.0 < due < 2.0
    systemd.heard()
    notifier.tick(due)
    assert systemd.heard() == ["READY=1\nSTATUS=all well"]
    assert notifier.deadline() is None


def test_a_manager_that_went_away_harms_nobody(systemd):
    notifier = systemd.notifier()
    systemd.sock.close()
    notifier.observe("running", "")
    notifier.tick(0.0)
    assert notifier.deadline() is None


def test_without_a_manager_there_is_nothing_to_say():
    notifier = Notifier(Manager("", 0), 0.0)
    notifier.observe("running", "")
    notifier.tick(0.0)
    assert not notifier.active
    assert notifier.deadline() is None
