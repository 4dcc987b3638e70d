"""The life of a service: start, stop in its phases, what interrupts them; one suite, both engines."""

from __future__ import annotations

import os
import socket
import time

import pytest

from forkd import Server, Service
from forkd.errors import ForkdError
from forkd.scoreboard import Board
from forkd.service import Inheritance, WorkerIdentity
from forkd.sockets import label
from tests.library.logs import logged

LONG = 3600.0


class Recorder(Server):
    """Notes what happens to it; a `job` in flight ends when `finish` is set."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def init(self, service: Service) -> None:
        self.notes.append("init")
        super().init(service)
        self.group = service.thread_group
        self.finish, self.draining, self.given_up = (self.group.event() for _ in range(3))

    def start(self) -> None:
        self.notes.append("start")

    def stop(self, graceful: bool = True) -> None:
        self.notes.append("drain" if graceful else "give up")
        (self.draining if graceful else self.given_up).set()

    def wait(self) -> None:
        self.notes.append("wait")

    def reset(self) -> None:
        self.notes.append("reset")

    def job(self) -> None:
        self.finish.wait()
        self.notes.append("finished")


class Draining(Recorder):
    """Its graceful stop waits for `drained`; told to give up, it sets that itself."""

    def init(self, service: Service) -> None:
        self.drained = service.thread_group.event()
        super().init(service)

    def stop(self, graceful: bool = True) -> None:
        super().stop(graceful)
        if not graceful:
            self.drained.set()
        self.drained.wait()


def test_start_reset_stop_and_wait_reach_the_server_in_order(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    service.start()
    assert server.service is service
    service.reset()
    service.stop()
    service.wait()
    assert server.notes == ["init", "start", "reset", "drain", "wait"]


def test_timers_and_threads_live_while_the_server_drains(engine):
    server = Draining()
    service = Service(server, concurrency=engine)
    service.start()
    beats = service.thread_group.add_timer(0.01, service.board.beat)
    outside = Service(Server(), concurrency=engine).thread_group
    stopping = outside.add_thread(service.stop)
    assert server.draining.wait(5)
    before, done = beats.runs, outside.event()

    def listen() -> None:
        if beats.runs > before + 2:
            done.set()

    outside.add_timer(0.01, listen)
    assert done.wait(5), "the heart beats while it drains"
    assert service.thread_group.add_thread(server.notes.append, "helper").wait(5)
    assert not service.thread_group.stopping.is_set()
    server.drained.set()
    assert stopping.wait(5)
    service.wait()
    assert beats.done
    assert server.notes == ["init", "start", "drain", "helper", "wait"]


def test_a_graceful_stop_waits_for_threads(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    service.start()
    service.thread_group.add_thread(server.job)

    def finish_when_told() -> None:
        server.group.stopping.wait()
        server.finish.set()

    service.thread_group.add_thread(finish_when_told)
    service.stop()
    assert server.notes == ["init", "start", "drain", "finished"]


def test_a_stop_at_once_waits_for_nothing(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    service.start()
    service.thread_group.add_thread(server.job)
    service.stop(graceful=False)
    service.wait()
    assert server.notes == ["init", "start", "give up", "wait"]
    assert service.thread_group.others() == []


@pytest.mark.parametrize("kind", ["Recorder", "Draining"])
def test_a_second_stop_cuts_a_graceful_one_short(engine, kind):
    server = {"Recorder": Recorder, "Draining": Draining}[kind]()
    service = Service(server, concurrency=engine)
    service.start()
    service.thread_group.add_thread(server.job)
    outside = Service(Server(), concurrency=engine).thread_group
    first = outside.add_thread(service.stop)
    assert server.draining.wait(5)
    service.stop()  # says nothing new
    assert not first.done
    service.stop(graceful=False)
    assert first.wait(5)
    service.wait()
    assert server.notes[:4] == ["init", "start", "drain", "give up"]
    assert "finished" not in server.notes


@pytest.mark.parametrize("kind", ["Recorder", "Draining"])
def test_a_graceful_stop_takes_no_longer_than_its_timeout(engine, kind):
    server = {"Recorder": Recorder, "Draining": Draining}[kind]()
    service = Service(server, name="shop", concurrency=engine)
    service.adopt(Inheritance(stop_timeout=0.05))
    service.start()
    service.thread_group.add_thread(server.job)
    with logged() as records:
        service.stop()
    assert records == ["WARNING forkd.service service shop: still busy after 0.05 s, stopped at once"]
    assert "finished" not in server.notes
    assert service.thread_group.others() == []


def test_a_server_whose_stop_never_returns_is_left_behind(engine):
    class Stuck(Recorder):
        def stop(self) -> None:  # type: ignore[override]  # as it may be
            self.finish.wait()

    service = Service(Stuck(), name="shop", concurrency=engine)
    service.adopt(Inheritance(stop_timeout=0.05))
    service.start()
    outside = Service(Server(), concurrency=engine).thread_group
    with logged() as records:
        outside.add_thread(service.stop)
        assert outside.add_thread(service.wait).wait(5)
    assert records == ["WARNING forkd.service service shop: its server did not stop in 0.05 s, left behind"]
    assert service.thread_group.others() == []


def test_one_of_its_own_threads_may_stop_it(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    service.start()

    def request() -> None:
        service.stop()
        server.notes.append("answered")

    service.thread_group.add_thread(request)
    service.wait()
    assert set(server.notes) == {"init", "start", "answered", "drain", "wait"}


@pytest.mark.parametrize("kind", ["Recorder", "Draining"])
@pytest.mark.parametrize("when", ["at once", "while it drains", "while its threads end"])
def test_threads_of_its_own_may_stop_it_and_then_stop_it_at_once(engine, kind, when):
    server = {"Recorder": Recorder, "Draining": Draining}[kind]()
    service = Service(server, concurrency=engine)
    service.start()
    group = service.thread_group
    group.add_thread(server.job)

    def hasten() -> None:
        if when == "while it drains":
            server.draining.wait()
        elif when == "while its threads end":
            if isinstance(server, Draining):
                server.drained.set()
            group.stopping.wait()
        service.stop(graceful=False)
        service.stop(graceful=False)

    group.add_thread(service.stop)
    group.add_thread(hasten)
    began = time.monotonic()
    service.wait()
    assert time.monotonic() - began < 0.9  # nobody waited in vain
    assert "finished" not in server.notes
    assert group.wait(5)


def test_a_thread_that_does_not_stop_is_named_and_left_behind(engine):
    server = Recorder()
    service = Service(server, name="shop", concurrency=engine)
    service.start()
    go = service.thread_group.event()

    def deaf() -> None:
        while not go.is_set():
            try:
                go.wait()
            except BaseException as stopped:  # noqa: BLE001 -- what a careless program does
                server.notes.append(type(stopped).__name__)

    service.thread_group.add_thread(deaf)
    service.thread_group.sleep(0.02)
    with logged() as records:
        service.stop(graceful=False)
    service.wait()
    assert "Stopped" in server.notes
    (record,) = records
    assert "service shop: ended with threads that do not stop" in record
    assert record.endswith("deaf")
    go.set()


@pytest.mark.parametrize("where", ["init", "start"])
def test_what_a_server_raises_when_it_starts_is_raised_and_leaves_nothing_running(engine, where):
    class Broken(Recorder):
        def init(self, service: Service) -> None:
            super().init(service)
            self.group.add_thread(self.group.sleep, LONG)
            self.group.add_timer(LONG, int)
            if where == "init":
                raise KeyError("DSN")

        def start(self) -> None:
            raise KeyError("DSN")

    server = Broken()
    service = Service(server, concurrency=engine)
    with pytest.raises(KeyError, match="DSN"):
        service.start()
    assert service.thread_group.others() == []
    service.stop()
    service.wait()
    assert "drain" not in server.notes


def test_a_server_that_fails_to_stop_is_logged_and_the_service_ends(engine):
    class Broken(Recorder):
        def stop(self, graceful: bool = True) -> None:
            raise KeyError("DSN")

    service = Service(Broken(), name="shop", concurrency=engine)
    service.start()
    with logged() as records:
        service.stop()
    service.wait()
    assert "service shop: its server failed to stop" in records[0]
    assert "KeyError: 'DSN'" in records[0]


def test_a_servers_stop_may_do_without_the_parameter(engine):
    class Simple(Recorder):
        def stop(self) -> None:  # type: ignore[override]
            self.notes.append("stop")

    class Sloppy(Recorder):
        def stop(self, **options) -> None:  # type: ignore[override]
            self.notes.append(str(options))

    for server, note in ((Simple(), "stop"), (Sloppy(), "{'graceful': True}")):
        service = Service(server, concurrency=engine)
        service.start()
        service.stop()
        assert server.notes == ["init", "start", note]


def test_a_service_starts_once(engine):
    service = Service(Recorder(), name="shop", concurrency=engine)
    service.start()
    with pytest.raises(ForkdError, match="service shop was started or stopped before"):
        service.start()
    service.stop()
    with pytest.raises(ForkdError, match="started or stopped before"):
        service.start()


def test_a_service_that_was_never_started_can_be_stopped(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    service.stop()
    service.wait()
    assert server.notes == []
    with pytest.raises(ForkdError, match="started or stopped before"):
        service.start()


def test_listeners_are_inherited_by_address_or_bound(engine):
    inherited = socket.create_server(("127.0.0.1", 0))
    service = Service(Recorder(), concurrency=engine)
    service.adopt(Inheritance(listeners={"0.0.0.0:80": inherited}))
    service.start()
    assert service.listen("0.0.0.0:80") is inherited
    bound = service.listen("127.0.0.1:0")
    assert service.listen("127.0.0.1:0") is bound
    address = bound.getsockname()
    socket.create_connection(address).close()
    service.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert inherited.fileno() >= 0, "the process's own, not the service's"
    assert label(inherited).startswith("127.0.0.1:")


def test_a_port_that_is_shared_with_other_programs(engine):
    services = [Service(Recorder(), concurrency=engine) for _ in range(2)]
    address = label(services[0].listen("127.0.0.1:0", reuse_port=True))
    services[1].listen(address, reuse_port=True)
    with pytest.raises(ForkdError, match="in use"):
        Service(Recorder(), concurrency=engine).listen(address)
    for service in services:
        service.start()
        service.stop()


def test_a_unix_socket_is_unlinked_at_the_end_unless_it_is_someone_elses_by_then(engine, short_tmp):
    own, taken = short_tmp / "own.sock", short_tmp / "taken.sock"
    service = Service(Recorder(), concurrency=engine)
    service.start()
    service.listen(f"unix:{own}")
    service.listen(f"unix:{taken}")
    taken.rename(short_tmp / "was.sock")
    successor = socket.socket(socket.AF_UNIX)
    successor.bind(str(taken))
    service.stop()
    assert not own.exists()
    assert taken.exists()


def test_what_a_worker_adopts_is_what_its_service_has(engine):
    service = Service(Recorder(), concurrency=engine)
    assert (service.worker, service.stop_timeout) == (None, 30.0)
    service.board.row().started()
    board, me = Board(), WorkerIdentity("host", "shop", 2, 17)
    service.adopt(Inheritance({}, board, me, 5.0))
    adopted: tuple[object, ...] = (service.board, service.worker, service.stop_timeout)
    assert adopted == (board, me, 5.0)


def test_a_service_made_before_a_fork_runs_after_it(engine):
    server = Recorder()
    service = Service(server, concurrency=engine)
    child = os.fork()
    if child == 0:
        try:
            service.start()
            service.thread_group.add_thread(int).wait(5)
            service.stop()
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_service_knows_its_name_and_its_limits():
    class Shop(Server): ...

    assert Service(Shop()).name == "Shop"
    assert Service(Shop(), name="shop").name == "shop"
    assert (Service(Shop()).concurrency, Service(Shop()).threads) == ("eventlet", 1000)
    assert Service(Shop(), concurrency="threads").threads == 32
    assert Service(Shop(), concurrency="threads", threads=5).thread_group.limit == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"concurrency": "gevent"}, "concurrency: expected 'eventlet' or 'threads', got 'gevent'"),
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"server": Server}, "needs an instance of forkd.Server"),
        ({"server": None}, "needs an instance of forkd.Server, got None"),
    ],
)
def test_what_a_service_refuses(arguments, text):
    with pytest.raises(ForkdError, match=text):
        Service(**{"server": Server(), **arguments})
