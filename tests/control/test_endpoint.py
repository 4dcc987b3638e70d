"""The launcher's end of the control socket, by hand: what a client sends, one turn, what it gets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest

from forkd import sockets
from forkd.control import connection, history
from forkd.control.endpoint import CONNECTIONS, Endpoint
from forkd.control.protocol import REQUEST_LIMIT
from forkd.core.events import Health, Reload, Restart, Scale, SignalWorkers, Stop
from forkd.core.state import News

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

PICTURE = {"forkd": {"state": "running"}, "services": []}


class Desk:
    """An endpoint and its clients, in one thread: `turn` does what the launcher's loop would."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "sock")
        self.picture: dict[str, Any] = PICTURE
        self.endpoint = Endpoint(
            sockets.listen(f"unix:{self.path}", 64, 0o600),
            lambda _service: self.picture,
            lambda: self.checks,
        )
        self.checks = [{"id": 7, "socket": "/run/forkd/health/7.sock"}]
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(self.path)
        client.settimeout(10)
        self.clients.append(client)
        return client

    def ask(self, line: bytes) -> socket.socket:
        client = self.connect()
        client.sendall(line)
        return client

    def turn(self) -> list[Any]:
        """Turn until nothing is left to do; a turn that changes nothing would go on for ever."""
        events: list[Any] = []
        for _ in range(10 * CONNECTIONS):
            if not select.select([self.endpoint], [], [], 0)[0]:
                return events
            events += self.endpoint.turn()
        pytest.fail("the endpoint would keep the launcher awake")

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.endpoint.close()


@pytest.fixture
def desk(short_tmp: pathlib.Path) -> Iterator[Desk]:
    desk = Desk(short_tmp)
    yield desk
    with contextlib.suppress(ValueError, OSError):  # the test has closed it
        desk.close()


def lines(client: socket.socket) -> list[dict[str, Any]]:
    """Return what has arrived so far."""
    client.setblocking(False)
    received = b""
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while data := client.recv(1 << 20):
            received += data
    client.settimeout(10)
    return [json.loads(line) for line in received.splitlines()]


def lines_until(desk: Desk, client: socket.socket, count: int) -> list[dict[str, Any]]:
    """Turn and read until `count` whole lines are here."""
    received = b""
    while received.count(b"\n") < count:
        desk.turn()
        received += client.recv(1 << 20)
    return [json.loads(line) for line in received.splitlines()]


def at_end(client: socket.socket) -> bool:
    """Tell whether the launcher has closed the connection."""
    poll = select.poll()
    poll.register(client, 0)
    return any(mask & select.POLLHUP for _, mask in poll.poll(0))


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Use up every descriptor of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


def test_status_is_answered_at_once_and_again(desk):
    client = desk.ask(b'{"do": "status"}\n{"do": "status"}\n')
    assert desk.turn() == []
    assert lines(client) == [{"status": PICTURE}] * 2
    client.sendall(b'{"do": "status"}\n')
    desk.turn()
    assert lines(client) == [{"status": PICTURE}]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"do": "reload"}\n', Reload(1)),
        (b'{"do": "reload", "service": "shop"}\n', Reload(1, "shop")),
        (b'{"do": "restart", "service": "shop"}\n', Restart(1, "shop")),
        (b'{"do": "stop"}\n', Stop(1)),
        (b'{"do": "stop", "service": "shop", "quick": true}\n', Stop(1, "shop", quick=True)),
        (b'{"do": "scale", "service": "shop", "workers": 4}\n', Scale(1, "shop", 4)),
        (b'{"do": "scale", "service": "shop", "workers": -1, "relative": true}\n', Scale(1, "shop", -1, relative=True)),
        (b'{"do": "signal", "service": "shop", "slot": 0, "signal": 10}\n', SignalWorkers(1, "shop", 0, 10)),
        (b'{"do": "signal", "signal": 10}\n', SignalWorkers(1, None, None, 10)),
    ],
)
def test_an_order_becomes_an_event_with_a_ticket(desk, line, event):
    client = desk.ask(line)
    assert desk.turn() == [event]
    assert lines(client) == [{"accepted": 1}]


def test_whoever_waits_is_told_how_it_goes_and_how_it_ends(desk):
    shop, everything, nothing = (
        desk.ask(b'{"do":"restart","service":"shop"}\n'),
        desk.ask(b'{"do":"reload"}\n'),
        desk.connect(),
    )
    assert desk.turn() == [Restart(1, "shop"), Reload(2)]
    desk.endpoint.tell(
        [
            News("ready", "shop", 0, 7, 12, 1),
            News("ready", "billing", 0, 8, 13, 1),
            News("ended", ticket=1, ok=True),
            News("ready", "shop", 1, 9, 14, 1),
            News("ended", ticket=2, ok=False, text="billing: no"),
        ]
    )
    assert [line.get("origin") for line in lines(shop)] == [None, "shop/0", None]
    *told, last = lines(everything)
    assert [line.get("origin") for line in told] == [None, "shop/0", "billing/0", "shop/1"]
    assert last == {"ended": 2, "ok": False, "text": "billing: no"}
    assert lines(nothing) == []


def test_whoever_follows_is_told_after_the_end_too_and_keeps_its_place(desk):
    client = desk.ask(b'{"do": "signal", "service": "shop", "signal": 40, "follow": true}\n')
    assert desk.turn() == [SignalWorkers(1, "shop", None, 40)]
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    for _ in range(CONNECTIONS + 1):
        desk.connect()
        desk.turn()
    desk.endpoint.tell([News("stacks", "billing", 0, 8, 13), News("stacks", "shop", 0, 7, 12, text="Thread 0x1")])
    accepted, ended, stacks = lines(client)
    assert (accepted, ended["ended"]) == ({"accepted": 1}, 1)
    assert stacks["news"] == {"kind": "stacks", "service": "shop", "slot": 0, "id": 7, "pid": 12, "text": "Thread 0x1"}


def test_events_are_the_news_so_far_numbered_and_with_the_time_of_day(desk):
    desk.endpoint.tell([News("ready", "shop", 0, 7, 12, 1), News("ended", ticket=9, ok=True), News("stopping")])
    client = desk.ask(b'{"do": "events"}\n')
    assert desk.turn() == []
    accepted, first, second, ended = lines(client)
    assert (accepted, ended) == ({"accepted": 1}, {"ended": 1, "ok": True, "text": ""})
    assert [(line["seq"], line["news"]["kind"], line["origin"]) for line in (first, second)] == [
        (1, "ready", "shop/0"),
        (2, "stopping", "launcher"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["at"])
    desk.endpoint.tell([News("stopping")])
    assert lines(client) == []


def test_events_of_a_service_are_its_own_and_the_launchers(desk):
    desk.endpoint.tell([News("waiting", "shop"), News("waiting", "billing"), News("stopping")])
    client = desk.ask(b'{"do": "events", "service": "shop", "follow": true}\n')
    desk.turn()
    desk.endpoint.tell([News("waiting", "billing"), News("waiting", "shop")])
    assert [line.get("seq") for line in lines(client)] == [None, 1, 3, None, 5]


def test_whoever_follows_events_may_ask_for_the_status_and_keeps_its_place(desk):
    client = desk.ask(b'{"do": "events", "follow": true}\n{"do": "status"}\n{"do": "reload"}\n')
    assert desk.turn() == []
    assert [next(iter(line)) for line in lines(client)] == ["accepted", "ended", "status", "error"]
    for _ in range(CONNECTIONS + 1):
        desk.connect()
        desk.turn()
    desk.endpoint.tell([News("stopping")])
    assert [line["seq"] for line in lines(client)] == [1]


def test_the_news_that_are_kept_are_bounded_in_number_and_in_bytes(desk):
    desk.endpoint.tell([News("ready", "shop", number, number, 12, 1) for number in range(history.KEPT + 5)])
    client = desk.ask(b'{"do": "events"}\n')
    told = [line["seq"] for line in lines_until(desk, client, history.KEPT + 2) if "seq" in line]
    assert told == list(range(6, history.KEPT + 6))
    desk.endpoint.tell([News("stacks", "shop", 0, 7, 12, 1, text="x" * 60_000)] * 100)
    client = desk.ask(b'{"do": "events"}\n')
    received = b""
    while b'"ended"' not in received:
        desk.turn()
        received += client.recv(1 << 20)
    assert history.BYTES - 200_000 < len(received) < history.BYTES + 1000
    assert json.loads(received.splitlines()[-2])["seq"] == history.KEPT + 105


def test_who_does_not_read_loses_news_and_is_told_where_and_how_many(desk):
    slow, quick = (desk.ask(b'{"do": "events", "follow": true}\n') for _ in range(2))
    desk.turn()
    lines(slow), lines(quick)
    stacks, count = News("stacks", "shop", 0, 7, 12, 1, text="x" * 60_000), 100
    read = 0
    for _ in range(count):
        desk.endpoint.tell([stacks])
        read += len(lines_until(desk, quick, 1))
    assert read == count
    assert all(len(peer._outbound) <= connection.NEWS_LIMIT for peer in desk.endpoint._clients.values())
    received = b""
    while b'"lost"' not in received:
        desk.turn()
        received += slow.recv(1 << 20)
    *told, lost = [json.loads(line) for line in received.splitlines()]
    assert [line["seq"] for line in told] == list(range(1, len(told) + 1))
    assert lost == {"lost": count - len(told)}
    desk.endpoint.tell([News("stopping")])
    assert [line["seq"] for line in lines_until(desk, slow, 1)] == [count + 1]


def test_an_answer_is_never_lost(desk):
    client = desk.ask(b'{"do": "reload"}\n')
    desk.turn()
    desk.endpoint.tell([News("stacks", "shop", 0, 7, 12, 1, text="x" * 60_000)] * 100)
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    received = b""
    while b'"lost"' not in received:
        desk.turn()
        received += client.recv(1 << 20)
    assert [next(iter(json.loads(line))) for line in received.splitlines()][-3:] == ["seq", "ended", "lost"]


def test_a_connection_may_give_one_order_after_the_other_but_not_two_at_once(desk):
    client = desk.ask(b'{"do": "reload"}\n{"do": "stop"}\n')
    assert desk.turn() == [Reload(1)]
    assert "one thing at a time" in lines(client)[1]["error"]
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    client.sendall(b'{"do": "restart"}\n')
    assert desk.turn() == [Restart(2)]


def test_a_request_may_come_in_pieces(desk):
    client = desk.ask(b'{"do": "rel')
    assert desk.turn() == []
    client.sendall(b'oad"}\n')
    assert desk.turn() == [Reload(1)]


@pytest.mark.parametrize("line", [b"hello\n", b'{"do": "fly"}\n', b'{"do": "reload", "servce": "x"}\n{"do": "stop"}\n'])
def test_what_is_no_request_gets_a_sentence_and_the_door(desk, line):
    client = desk.ask(line)
    assert desk.turn() == []
    assert len(lines(client)) == 1
    assert at_end(client)


def test_a_request_without_an_end_is_cut_off(desk):
    client = desk.connect()
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        for _ in range(64):
            client.send(b"x" * 4096)
            assert desk.turn() == []
    assert str(REQUEST_LIMIT) in lines(client)[0]["error"]
    assert at_end(client)


def test_a_client_that_goes_away_costs_nothing(desk):
    before = len(os.listdir("/proc/self/fd"))
    for line in (b"", b'{"do": "rel', b'{"do": "status"}\n', b'{"do": "reload"}\n'):
        client = desk.ask(line)
        desk.turn()
        client.close()
        desk.turn()
    desk.endpoint.tell([News("ready", "shop", 0, 7, 12, 1), News("ended", ticket=1, ok=True)])
    desk.turn()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_client_that_only_listens_is_still_told_the_end(desk):
    """Such as `echo '{"do": "reload"}' | nc -U forkd.sock`."""
    client = desk.ask(b'{"do": "reload"}\n')
    client.shutdown(socket.SHUT_WR)
    assert desk.turn() == [Reload(1)]
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    assert [list(line) for line in lines(client)] == [["accepted"], ["ended", "ok", "text"]]
    assert at_end(client)


def test_a_big_answer_goes_out_as_the_client_reads(desk):
    desk.picture = {"services": ["x" * 100] * 20_000}
    client = desk.ask(b'{"do": "status"}\n')
    received = b""
    while not received.endswith(b"\n"):
        desk.turn()
        received += client.recv(1 << 16)
    assert json.loads(received) == {"status": desk.picture}


def test_a_client_that_does_not_read_is_dropped(desk, monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_LIMIT", 100_000)
    desk.picture = {"services": ["x" * 100] * 10_000}
    client = desk.ask(b'{"do": "status"}\n' * 10)
    desk.turn()
    desk.picture = PICTURE
    other = desk.ask(b'{"do": "status"}\n')
    desk.turn()
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 20):
            received += data
    assert b"\n" not in received
    assert len(lines(other)) == 1


def test_thousands_of_requests_at_once_are_obeyed_one_a_turn_and_others_between_them(desk):
    answers: list[dict[str, Any]] = []

    def status(_service) -> dict[str, Any]:
        answers.append(PICTURE)
        return PICTURE

    desk.endpoint._status = status
    client, other = desk.connect(), desk.connect()
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 4000 * 17:
            sent += client.send((b'{"do": "status"}\n' * 4000)[sent:])
    desk.endpoint.turn()  # accepts one
    desk.endpoint.turn()  # and the other
    other.sendall(b'{"do": "reload"}\n')
    before = len(answers)
    assert desk.endpoint.turn() == [Reload(1)]
    assert len(answers) - before <= 1
    received = 0
    while received < sent // 17:
        assert select.select([desk.endpoint], [], [], 0)[0]
        desk.endpoint.turn()
        received += len(lines(client))
    assert len(answers) == sent // 17


def test_a_client_that_sends_and_does_not_read_waits_for_itself_and_the_launcher_sleeps(desk):
    desk.picture = {"services": ["x" * 100] * 1_000}
    client = desk.ask(b'{"do": "status"}\n' * 100)
    desk.turn()  # fails when the endpoint stays ready
    (peer,) = desk.endpoint._clients.values()
    assert len(peer._outbound) < 200_000
    assert lines_until(desk, client, 100) == [{"status": desk.picture}] * 100


def test_nothing_is_kept_for_a_client_that_was_closed(desk):
    desk.ask(b'{"do": "status"}\n' * 3)
    desk.endpoint.turn()
    (peer,) = desk.endpoint._clients.values()
    peer.close()
    peer.send(b"x")
    assert not peer._outbound
    assert peer.ready(select.EPOLLIN) is None


def test_connections_are_bounded_and_those_that_wait_for_nothing_go_first(desk):
    waiting = desk.ask(b'{"do": "reload"}\n')
    assert desk.turn() == [Reload(1)]
    idle = []
    for _ in range(CONNECTIONS + 5):
        idle.append(desk.connect())
        desk.turn()
    assert [at_end(client) for client in idle] == [True] * 6 + [False] * (CONNECTIONS - 1)
    assert all("too many" in lines(client)[0]["error"] for client in idle[:6])
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    assert lines(waiting)[-1]["ok"] is True


def test_without_a_descriptor_left_callers_are_turned_away_and_the_launcher_sleeps(desk):
    clients = [desk.connect() for _ in range(3)]
    with no_descriptor_left():
        desk.turn()
    assert all(at_end(client) for client in clients)
    client = desk.ask(b'{"do": "status"}\n')
    desk.turn()
    assert lines(client) == [{"status": PICTURE}]


def test_other_users_are_refused_with_a_sentence(desk, monkeypatch):
    monkeypatch.setattr(connection.Connection, "_peer_uid", lambda self: os.geteuid() + 1)
    client = desk.ask(b'{"do": "stop"}\n')
    assert desk.turn() == []
    assert f"user {os.geteuid() + 1} may not" in lines(client)[0]["error"]
    assert at_end(client)


def test_closing_ends_every_connection(desk):
    client = desk.ask(b'{"do": "stop"}\n')
    desk.turn()
    desk.endpoint.tell([News("ended", ticket=1, ok=True)])
    desk.endpoint.close()
    assert [next(iter(line)) for line in lines(client)] == ["accepted", "ended"]
    assert at_end(client)


def test_the_spare_descriptor_and_all_others_are_not_inherited(desk):
    desk.connect()
    desk.turn()
    owned = [desk.endpoint.fileno(), desk.endpoint._spare, *desk.endpoint._clients]
    assert not any(os.get_inheritable(number) for number in owned)


def test_who_is_to_be_asked_and_how_that_went(desk):
    client = desk.ask(b'{"do": "checks"}\n{"do": "health", "id": 7, "failures": 1, "text": "503"}\n')
    assert desk.turn() == [Health(7, 1, unhealthy=False, text="503")]
    assert lines(client) == [{"checks": desk.checks}]
    client.sendall(b'{"do": "health", "id": 7, "failures": 0}\n')
    assert desk.turn() == [Health(7, 0)]
    assert lines(client) == []
