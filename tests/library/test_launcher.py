"""ServiceLauncher: services in this process, driven by real signals; one suite, both engines."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from forkd import Launcher, Server, Service, ServiceLauncher, rpc
from forkd.errors import ForkdError
from tests.library.logs import logged
from tests.waiting import until

LONG = 3600.0


class Signalled(Server):
    """Sends its own process the signals of `script`, the first by `next`, each other when the last had its effect."""

    def __init__(self, *script: int) -> None:
        self.script = list(script)
        self.notes: list[str] = []

    def next(self) -> None:
        if self.script:
            os.kill(os.getpid(), self.script.pop(0))

    def stop(self, graceful: bool = True) -> None:
        self.notes.append("drain" if graceful else "give up")
        self.next()

    def reset(self) -> None:
        self.notes.append("reset")
        self.next()

    def reopen(self) -> None:
        self.notes.append("reopen")
        self.next()


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)]


def run(*servers: Signalled, engine: str) -> None:
    launcher = ServiceLauncher()
    services = [Service(server, concurrency=engine) for server in servers]
    for service in services:
        launcher.launch_service(service)
    for service, server in zip(services, servers, strict=True):
        service.thread_group.add_thread(server.next)
    launcher.wait()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_term_and_int_stop_gracefully(engine, name):
    before = handlers()
    server, other = Signalled(signal.Signals[name]), Signalled()
    run(other, server, engine=engine)
    assert (server.notes, other.notes) == (["drain"], ["drain"])
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_one_stops_at_once(engine, name):
    server = Signalled(signal.SIGTERM, signal.Signals[name])
    service = Service(server, concurrency=engine)
    launcher = ServiceLauncher()
    launcher.launch_service(service)
    service.thread_group.add_thread(service.thread_group.sleep, LONG)
    service.thread_group.add_thread(server.next)
    launcher.wait()
    assert server.notes == ["drain", "give up"]


def test_quit_stops_at_once(engine):
    server = Signalled(signal.SIGQUIT)
    service = Service(server, concurrency=engine)
    launcher = ServiceLauncher()
    launcher.launch_service(service)
    service.thread_group.add_thread(service.thread_group.sleep, LONG)
    service.thread_group.add_thread(server.next)
    launcher.wait()
    assert server.notes == ["give up"]


def test_hup_resets_and_serves_on(engine):
    server = Signalled(signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    other = Signalled()
    run(other, server, engine=engine)
    assert server.notes == ["reset", "reset", "drain"]
    until(lambda: other.notes.count("reset") == 2, what="two resets of the other service")


def test_each_of_several_that_serve_calls_stops(engine, short_tmp):
    os.environ["FORKD_RUNTIME_DIR"] = str(short_tmp)

    class Calls(rpc.Server):
        def __init__(self, topic: str) -> None:
            self.topic = topic

        def name(self) -> str:
            return self.topic

    def call() -> None:
        for topic in ("one", "two"):
            with rpc.Client(topic) as client:
                found.append(client.call("name"))
        os.kill(os.getpid(), signal.SIGTERM)

    found: list[str] = []
    launcher = ServiceLauncher()
    with logged() as records:
        for topic in ("one", "two"):
            service = Service(Calls(topic), concurrency=engine)
            launcher.launch_service(service)
        service.thread_group.add_thread(call)
        launcher.wait()
    assert found == ["one", "two"]
    assert records == []


def test_a_reset_that_fails_is_logged_and_the_service_goes_on(engine):
    class Broken(Signalled):
        def reset(self) -> None:
            super().reset()
            raise KeyError("DSN")

    server = Broken(signal.SIGHUP, signal.SIGTERM)
    with logged() as records:
        run(server, engine=engine)
        until(lambda: records, what="the record of the reset, which sends TERM before it fails")
    assert server.notes == ["reset", "drain"]
    assert "KeyError: 'DSN'" in records[0]


def test_a_service_that_stops_by_itself_ends_the_wait(engine):
    launcher = ServiceLauncher()
    services = [Service(Signalled(), concurrency=engine) for _ in range(2)]
    for service in services:
        launcher.launch_service(service)
        service.thread_group.add_thread(service.stop)
    launcher.wait()
    launcher.wait()  # nothing is left to wait for


def test_the_launcher_can_be_told_to_stop(engine):
    server = Signalled()
    service = Service(server, concurrency=engine)
    launcher = ServiceLauncher()
    launcher.launch_service(service)
    service.thread_group.add_thread(launcher.stop)
    launcher.wait()
    assert server.notes == ["drain"]
    launcher.stop()


def test_it_can_be_stopped_before_it_waits_and_used_again(engine):
    launcher = ServiceLauncher()
    for _ in range(2):
        server = Signalled()
        launcher.launch_service(Service(server, concurrency=engine))
        launcher.stop()
        launcher.wait()
        assert server.notes == ["drain"]


def test_a_signal_that_comes_between_start_and_wait_is_not_lost(engine):
    server = Signalled()
    launcher = ServiceLauncher()
    launcher.launch_service(Service(server, concurrency=engine))
    os.kill(os.getpid(), signal.SIGTERM)
    launcher.wait()
    assert server.notes == ["drain"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("idle", ["", "idle"])
def test_a_start_that_hangs_is_ended_by_signals(engine, name, idle):
    class Hangs(Server):
        def start(self) -> None:
            assert self.service is not None
            group = self.service.thread_group
            if idle:
                group.add_timer(LONG, os.kill, os.getpid(), signal.Signals[name])
                group.sleep(LONG)
            os.kill(os.getpid(), signal.Signals[name])
            group.sleep(LONG)

    before = handlers()
    other, hanging = Signalled(), Service(Hangs(), concurrency=engine)
    launcher = ServiceLauncher()
    launcher.launch_service(Service(other, concurrency=engine))
    with pytest.raises(KeyboardInterrupt if name == "SIGINT" else SystemExit):
        launcher.launch_service(hanging)
    assert other.notes == ["give up"]
    assert hanging.thread_group.others() == []
    assert handlers() == before


def test_what_a_start_raises_stops_the_others_and_is_raised(engine):
    class Broken(Server):
        def start(self) -> None:
            raise KeyError("DSN")

    before = handlers()
    other = Signalled()
    launcher = ServiceLauncher()
    launcher.launch_service(Service(other, concurrency=engine))
    with pytest.raises(KeyError, match="DSN"):
        launcher.launch_service(Service(Broken(), concurrency=engine))
    assert other.notes == ["give up"]
    assert handlers() == before


def test_an_exception_out_of_the_wait_stops_the_services(engine):
    """A debugger's Ctrl-C handler raises wherever the process is."""

    def handler(_number, _frame) -> None:
        raise KeyboardInterrupt

    before = handlers()
    server = Signalled(signal.SIGHUP, signal.SIGUSR1)  # the first is heeded by the wait, so the second comes into it
    signal.signal(signal.SIGUSR1, handler)
    with pytest.raises(KeyboardInterrupt):
        run(server, engine=engine)
    assert server.notes == ["reset", "give up"]
    assert handlers() == before


def test_usr1_opens_log_files_anew_beside_the_scripts_own_handler(engine):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        server = Signalled(signal.SIGUSR1, signal.SIGTERM)
        run(server, engine=engine)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert server.notes == ["reopen", "drain"]
    assert heard == [signal.SIGUSR1]


def test_a_handler_of_the_users_own_is_given_back(engine):
    mine = lambda *_: None
    signal.signal(signal.SIGTERM, mine)
    run(Signalled(signal.SIGTERM), engine=engine)
    assert signal.getsignal(signal.SIGTERM) is mine


def test_a_server_that_fails_to_wait_does_not_hang_the_launcher(engine):
    class Broken(Signalled):
        def wait(self) -> None:
            raise KeyError("DSN")

    with logged() as records:
        run(Broken(signal.SIGTERM), engine=engine)
    assert "KeyError: 'DSN'" in records[0]


def test_more_than_one_worker_is_refused(engine):
    launcher: Launcher = ServiceLauncher()
    with pytest.raises(ForkdError, match="one worker per service, not 2: use a ProcessLauncher"):
        launcher.launch_service(Service(Server(), concurrency=engine), workers=2)


def test_services_of_both_concurrencies_are_refused(engine):
    other = {"eventlet": "threads", "threads": "eventlet"}[engine]
    launcher = ServiceLauncher()
    launcher.launch_service(Service(Server(), concurrency=engine))
    with pytest.raises(ForkdError, match="cannot share a process: use a ProcessLauncher"):
        launcher.launch_service(Service(Server(), concurrency=other))
    launcher.stop()
    launcher.wait()


def native_thread(fn, *args) -> threading.Thread:
    """Return a thread that is none of eventlet's, which has replaced them in its process."""
    eventlet = sys.modules.get("eventlet")
    made = (eventlet.patcher.original("threading") if eventlet else threading).Thread(target=fn, args=args)
    made.start()
    return made


def test_any_thread_can_stop_it(engine):
    server = Signalled()
    launcher = ServiceLauncher()
    launcher.launch_service(Service(server, concurrency=engine))
    stopping = native_thread(launcher.stop)
    launcher.wait()
    stopping.join()
    assert server.notes == ["drain"]


def test_another_than_the_main_thread_runs_it_and_takes_no_signals(engine):
    before, during, server = handlers(), [], Signalled()

    def main() -> None:
        launcher = ServiceLauncher()
        launcher.launch_service(Service(server, concurrency=engine))
        during.extend(handlers())
        native_thread(launcher.stop)
        launcher.wait()

    native_thread(main).join()
    assert server.notes == ["drain"]
    assert during == before
