"""The lives of zygotes and workers as the kernel sees them, with real processes."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import pytest

import forkd
from forkd import sockets
from forkd.channel import PROTOCOL
from forkd.core.commands import Signal, Spawn, StartZygote
from forkd.core.events import Draining, Exited, Failed, Ready, Started
from tests.kernel.yard import KILL, PATIENCE, Yard, alive, fds
from tests.waiting import until

PLAIN = "class S(forkd.Server): pass"


def test_worker_starts_drains_and_exits(yard, concurrency):
    zygote = yard.zygote(yard.spec(PLAIN, concurrency=concurrency))
    worker = yard.worker(zygote)
    yard.signal(worker, signal.SIGTERM)
    yard.until(Exited, worker)
    assert yard.kinds(worker) == [Started, Ready, Draining, Exited]
    assert yard.of(worker)[-1] == Exited(worker, 0, None)
    yard.retire()
    yard.until(Exited, zygote)
    assert yard.kinds(zygote) == [Started, Ready, Exited]
    assert yard.of(zygote)[-1] == Exited(zygote, 0, None)


def test_worker_is_our_child_and_leads_its_group(yard):
    zygote = yard.zygote(yard.spec(PLAIN))
    pid = yard.pid(yard.worker(zygote))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert (int(fields[1]), int(fields[2])) == (os.getpid(), pid)


def test_processes_have_titles(yard):
    zygote = yard.zygote(yard.spec(PLAIN), generation=3)
    worker = yard.worker(zygote, slot=2)
    title = lambda id: Path(f"/proc/{yard.pid(id)}/cmdline").read_bytes().rstrip(b"\0 ").decode()
    assert title(zygote) == "forkd: shop zygote gen 3"
    assert title(worker) == "forkd: shop/2 gen 3"


def test_kill_is_reported_as_such(yard):
    worker = yard.worker(yard.zygote(yard.spec(PLAIN)))
    yard.signal(worker, KILL)
    assert yard.until(Exited, worker) == Exited(worker, None, KILL)


def test_kill_takes_what_the_worker_has_started_along(yard):
    source = """
        class S(forkd.Server):
            def start(self):
                say(subprocess.Popen(["sleep", "1000"]).pid)
    """
    worker = yard.worker(yard.zygote(yard.spec(source)))
    helper = int(yard.line())
    yard.signal(worker, KILL)
    yard.until(Exited, worker)
    yard.until_dead(helper)


def test_leftovers_of_a_worker_that_exits_by_itself_are_killed(yard):
    source = """
        class S(forkd.Server):
            def start(self):
                say(subprocess.Popen(["sleep", "1000"]).pid)
    """
    worker = yard.worker(yard.zygote(yard.spec(source)))
    helper = int(yard.line())
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0
    yard.until_dead(helper)


def test_import_failure_says_why_before_the_end(yard, concurrency):
    spec = yard.spec("os.environ['DSN']", concurrency=concurrency)
    zygote = yard.start_zygote(spec)
    yard.until(Exited, zygote)
    _, failed, exited = yard.of(zygote)
    assert failed.error == "KeyError: 'DSN'"
    assert "app.py" in failed.traceback
    assert "forkd/zygote" not in failed.traceback
    assert exited == Exited(zygote, 1, None)


@pytest.mark.parametrize(
    ("start", "error"),
    [
        ("{}['DSN']", "KeyError: 'DSN'"),
        ("sys.exit('no database')", "SystemExit: no database"),
        ("raise RuntimeError('x' * 100_000)", "RuntimeError: xxx"),
    ],
)
def test_start_failure_says_why_before_the_end(yard, concurrency, start, error):
    source = f"""
        class S(forkd.Server):
            def start(self):
                {start}
    """
    worker = yard.spawn(yard.zygote(yard.spec(source, concurrency=concurrency)))
    yard.until(Exited, worker)
    _, failed, exited = yard.of(worker)
    assert failed.error.startswith(error)
    assert exited == Exited(worker, 1, None)


def test_without_preload_the_worker_imports(yard, concurrency):
    spec = yard.spec(f"say(os.getpid())\n{PLAIN}", concurrency=concurrency, preload=False)
    zygote = yard.zygote(spec)
    worker = yard.worker(zygote)
    assert int(yard.line()) == yard.pid(worker)


def test_without_preload_the_worker_fails_to_import(yard):
    spec = yard.spec("os.environ['DSN']", preload=False)
    worker = yard.spawn(yard.zygote(spec))
    yard.until(Exited, worker)
    assert yard.of(worker)[1].error == "KeyError: 'DSN'"


def test_interpreter_that_cannot_be_run(yard, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    zygote = yard.start_zygote(yard.spec(PLAIN))
    yard.until(Exited, zygote)
    _, failed, exited = yard.of(zygote)
    assert "cannot start the zygote" in failed.error
    assert "No such file" in failed.error
    assert exited == Exited(zygote, 1, None)


def test_interpreter_that_does_not_run_forkd(yard, capfd):
    python = yard.folder / "python"
    python.write_text("#!/bin/sh\necho no module of that name >&2; exit 1\n")
    python.chmod(0o755)
    zygote = yard.start_zygote(yard.spec(PLAIN, python=str(python)))
    yard.until(Exited, zygote)
    _, failed, exited = yard.of(zygote)
    assert failed.error.startswith(f"python: {python} does not run forkd {forkd.__version__}: ")
    assert failed.error.endswith(f"({python} -m pip install forkd=={forkd.__version__})")
    assert exited == Exited(zygote, 1, None)
    assert "no module of that name" in capfd.readouterr().err


def test_import_that_ends_the_interpreter_is_no_fault_of_it(yard):
    zygote = yard.start_zygote(yard.spec("os._exit(3)"))
    yard.until(Exited, zygote)
    assert yard.kinds(zygote) == [Started, Exited]


@pytest.mark.parametrize("difference", ["protocol", "fields"])
def test_zygote_of_another_forkd(yard, monkeypatch, difference):
    if difference == "protocol":
        monkeypatch.setattr("forkd.kernel.hearing.PROTOCOL", PROTOCOL + 1)
    else:
        monkeypatch.setattr("forkd.config.decode.spec_to", lambda spec: {**spec._asdict(), "colour": "red"})
    monkeypatch.setattr(forkd, "__version__", "7.5")
    zygote = yard.start_zygote(yard.spec(PLAIN))
    yard.until(Exited, zygote)
    _, failed, exited = yard.of(zygote)
    assert f"of {sys.executable} does not understand the launcher, which is forkd 7.5: " in failed.error
    assert failed.error.endswith(f"{sys.executable} -m pip install forkd==7.5")
    assert exited == Exited(zygote, 1, None)


def test_user_that_does_not_exist(yard):
    zygote = yard.start_zygote(yard.spec(PLAIN, user="nobody-of-that-name"))
    yard.until(Exited, zygote)
    assert "there is no user 'nobody-of-that-name'" in yard.of(zygote)[1].error


def test_listener_that_cannot_be_opened(yard):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        spec = yard.spec(PLAIN, bind=("127.0.0.1:0", address))
        failed, exited = yard.perform(StartZygote(77, 1, spec))
    assert failed == Failed(77, f"cannot listen on {address}: address already in use")
    assert exited == Exited(77, None, None)


def test_spawn_from_a_zygote_that_is_gone(yard):
    zygote = yard.zygote(yard.spec(PLAIN))
    yard.signal(zygote, KILL)
    yard.until(Exited, zygote)
    assert yard.perform(Spawn(50, zygote, 0)) == [Failed(50, "its zygote is gone"), Exited(50, None, None)]


def test_kill_of_a_worker_that_is_not_yet_one(yard):
    """The zygote is stopped, so it cannot fork; when it goes on, what it forks must not live."""
    zygote = yard.zygote(yard.spec(PLAIN))
    first = yard.worker(zygote)
    os.kill(yard.pid(zygote), signal.SIGSTOP)
    worker = yard.spawn(zygote, slot=1)
    assert yard.perform(Signal(worker, KILL)) == [Exited(worker, None, None)]
    os.kill(yard.pid(zygote), signal.SIGCONT)
    second = yard.worker(zygote, slot=2)  # the order before it has been dealt with
    yard.signal(first, KILL)
    yard.until(Exited, first)
    assert yard.of(worker) == [Exited(worker, None, None)]
    assert alive(yard.pid(second))


def test_signals_to_the_dead_are_harmless(yard):
    worker = yard.worker(yard.zygote(yard.spec(PLAIN)))
    os.kill(yard.pid(worker), signal.SIGKILL)
    until(lambda: not alive(yard.pid(worker)), what="its death")
    yard.signal(worker, signal.SIGTERM)
    yard.until(Exited, worker)
    yard.signal(worker, KILL)
    assert yard.of(worker)[-1] == Exited(worker, None, KILL)


def test_hang_up_resets_in_place(yard, concurrency):
    source = """
        class S(forkd.Server):
            count = 0
            def reset(self):
                self.count += 1
                say("reset", self.count)
                if self.count == 1:
                    raise ValueError("cannot")
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency=concurrency)))
    for count in (1, 2):
        yard.signal(worker, signal.SIGHUP)
        assert yard.line() == f"reset {count}"
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0


SLOW = """
    class S(forkd.Server):
        def stop(self, graceful=True):
            say("stop", graceful)
            if graceful:
                self.service.thread_group.event().wait(1000)
"""


def test_second_term_changes_nothing_and_quit_ends_a_drain(yard, concurrency):
    worker = yard.worker(yard.zygote(yard.spec(SLOW, concurrency=concurrency)))
    yard.signal(worker, signal.SIGTERM)
    assert yard.line() == "stop True"
    yard.signal(worker, signal.SIGTERM)
    yard.signal(worker, signal.SIGINT)
    yard.signal(worker, signal.SIGHUP)
    yard.until(Draining, worker)
    assert alive(yard.pid(worker))
    yard.signal(worker, signal.SIGQUIT)
    assert yard.until(Exited, worker).code == 0


def test_quit_does_not_drain(yard, concurrency):
    worker = yard.worker(yard.zygote(yard.spec(SLOW, concurrency=concurrency)))
    yard.signal(worker, signal.SIGQUIT)
    assert yard.line() == "stop False"
    assert yard.until(Exited, worker).code == 0
    assert yard.kinds(worker) == [Started, Ready, Exited]  # as tuples, events of different kinds may be equal


def test_what_a_worker_forks_is_no_worker(yard, concurrency):
    source = """
        import multiprocessing
        class S(forkd.Server):
            ticks = 0
            def start(self):
                self.service.thread_group.add_timer(0.01, self.tick)
                self.service.thread_group.add_timer(3600, self.work, initial_delay=0.05)
            def tick(self):
                self.ticks += 1
            def work(self):
                ended = [self.end(time.sleep, 60) for _ in range(50)]
                say(*set(ended))
                alone = multiprocessing.Process(target=self.look_around)
                alone.start()
                alone.join()
                say(alone.exitcode)
            def end(self, *target):
                process = multiprocessing.Process(target=target[0], args=target[1:])
                process.start()
                process.terminate()
                process.join(5)
                return process.exitcode
            def look_around(self):
                before = self.ticks
                time.sleep(0.2)
                os._exit(self.ticks - before)  # how often the parent's timer has run here
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency=concurrency)))
    assert yard.line() == f"{-signal.SIGTERM}"
    assert yard.line() == "0"
    assert yard.kinds(worker) == [Started, Ready]
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker).code == 0
    assert yard.kinds(worker) == [Started, Ready, Draining, Exited]


def _said(text):
    """Tell whether a text is on stderr by now; `capfd`, to whose file that goes, would lose what comes meanwhile."""
    return text in os.pread(2, 1_000_000, 0).decode()


@pytest.mark.parametrize(
    "stderr", ["None", "object()", "__import__('io').StringIO()", "open(os.devnull, 'w'); sys.stderr.close()"]
)
@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.usefixtures("capfd")
def test_code_may_do_to_stderr_what_it_likes(yard, stderr, preload):
    source = f"""
        sys.stdout = None
        sys.stderr = {stderr}
        class S(forkd.Server):
            def reset(self):
                raise ValueError("cannot")
            def stop(self):
                say("stop")
    """
    worker = yard.worker(yard.zygote(yard.spec(source, preload=preload)))
    os.kill(yard.pid(worker), signal.SIGUSR2)
    until(lambda: _said("(most recent call first)"), what="the stacks")
    yard.signal(worker, signal.SIGHUP)
    if "StringIO" not in stderr:
        until(lambda: _said("ValueError: cannot"), what="the log's line")
    yard.signal(worker, signal.SIGTERM)
    assert yard.line() == "stop"
    assert yard.until(Exited, worker).code == 0


def test_worker_that_is_told_to_stop_while_it_starts(yard):
    source = """
        say("importing")
        time.sleep(1000)
    """
    worker = yard.spawn(yard.zygote(yard.spec(source, preload=False)))
    assert yard.line() == "importing"
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker) == Exited(worker, None, signal.SIGTERM)


def test_zygote_heeds_no_signal_that_is_for_workers(yard):
    zygote = yard.zygote(yard.spec(f"signal.signal(signal.SIGTERM, signal.SIG_DFL)\n{PLAIN}"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(yard.pid(zygote), number)
    yard.worker(zygote)
    assert yard.kinds(zygote) == [Started, Ready]


def test_zygote_that_does_not_end_its_import_dumps_its_stacks(yard, capfd):
    source = """
        def a_place_to_be_found():
            say("importing")
            signal.pause()
        a_place_to_be_found()
    """
    zygote = yard.start_zygote(yard.spec(source))
    assert yard.line() == "importing"
    yard.signal(zygote, signal.SIGABRT)
    assert yard.until(Exited, zygote) == Exited(zygote, None, signal.SIGABRT)
    assert "a_place_to_be_found" in capfd.readouterr().err


def test_zygote_is_single_threaded_when_it_forks(yard, concurrency):
    zygote = yard.zygote(yard.spec(PLAIN, concurrency=concurrency))
    yard.worker(zygote)
    assert len(os.listdir(f"/proc/{yard.pid(zygote)}/task")) == 1


def test_threads_at_import_are_named(yard, capfd):
    source = """
        import threading
        threading.Thread(target=time.sleep, args=(1000,), name="metrics-pusher", daemon=True).start()
        class S(forkd.Server):
            pass
    """
    yard.worker(yard.zygote(yard.spec(source)))
    said = capfd.readouterr().err
    assert "importing started threads (metrics-pusher): no worker will have them" in said
    assert "preload: false" in said


def test_worker_may_collect_garbage_and_the_zygote_does_not(yard):
    source = """
        import gc
        say(gc.isenabled())
        class S(forkd.Server):
            def start(self):
                say(gc.isenabled(), gc.get_freeze_count() > 1000)
    """
    zygote = yard.zygote(yard.spec(source))
    assert yard.line() == "False"
    yard.worker(zygote)
    assert yard.line() == "True True"


def test_heartbeat_and_identity(yard, concurrency):
    source = """
        class S(forkd.Server):
            def start(self):
                say(*self.service.worker, self.service.name, self.service.stop_timeout)
                self.service.board.row().started()
    """
    zygote = yard.zygote(yard.spec(source, concurrency=concurrency, stop_timeout=7.0))
    worker = yard.worker(zygote, slot=5)
    assert yard.line() == f"{os.uname().nodename} shop 5 {worker} shop 7.0"
    first = yard.kernel.describe(worker)
    assert first.in_flight == 1
    assert 0 < first.heartbeat <= yard.kernel.now()
    until(lambda: yard.kernel.describe(worker).heartbeat > first.heartbeat, what="the next heartbeat")
    assert yard.kernel.describe(zygote) is None


def failures_of(yard: Yard, worker: int) -> int:
    """Return how many calls of a worker's only task have raised."""
    return yard.kernel.describe(worker).tallies[0].values[1]


def test_what_became_of_tasks_outlives_the_worker(yard, concurrency):
    source = """
        class S(forkd.Server):
            @forkd.periodic_task(3600, run_immediately=True)
            def fails(self):
                self.service.board.row().started()
                raise KeyError("DSN")
    """
    zygote = yard.zygote(yard.spec(source, concurrency=concurrency))
    workers = [yard.worker(zygote, slot) for slot in (0, 1)]
    for worker in workers:
        until(partial(failures_of, yard, worker), what="the first call")
        yard.signal(worker, signal.SIGKILL)
        yard.until(Exited, worker)
        assert yard.kernel.describe(worker) is None
    third = yard.worker(zygote)
    until(partial(failures_of, yard, third), what="the first call")
    totals = yard.kernel.totals("shop")
    (task,) = totals.tallies
    assert task[:2] == ("task", "fails")
    assert task.values[:4] == (0, 3, 0, 0)
    assert task.values[4] == yard.kernel.describe(third).tallies[0].values[4], "when it ran last"
    assert totals.in_flight == 1, "what the dead had begun, nobody does any more"
    assert yard.kernel.totals("other").tallies == ()


def test_environment_directory_and_paths(yard):
    other = yard.folder / "other"
    other.mkdir()
    (other / "beside.py").write_text("")
    source = """
        import beside
        say(os.getcwd(), os.environ["COLOUR"], os.environ["FORKD_RUNTIME_DIR"], "NOTIFY_SOCKET" in os.environ)
        say(sys.path[0], sys.path[1], sys.stdin.readline() == "")
        class S(forkd.Server):
            pass
    """
    os.environ["NOTIFY_SOCKET"] = "/nonexistent"
    try:
        yard.zygote(yard.spec(source, environment={"COLOUR": "blue"}, pythonpath=("../other",)))
    finally:
        del os.environ["NOTIFY_SOCKET"]
    code = yard.folder / "code"
    assert yard.line() == f"{code} blue {yard.folder} False"
    assert yard.line() == f"{code} {other} True"


def test_listeners_are_shared_over_generations(yard):
    source = """
        class S(forkd.Server):
            def init(self, service):
                super().init(service)
                say(service.listen("127.0.0.1:0").getsockname()[1])
    """
    spec = yard.spec(source, bind=("127.0.0.1:0",))
    first = yard.worker(yard.zygote(spec))
    port = int(yard.line())
    second = yard.worker(yard.zygote(spec, generation=2))
    assert int(yard.line()) == port
    yard.signal(first, KILL)
    yard.until(Exited, first)
    yard.retire(1)
    socket.create_connection(("127.0.0.1", port)).close()
    yard.signal(second, KILL)
    yard.until(Exited, second)
    socket.create_connection(("127.0.0.1", port)).close()  # no worker, but the launcher keeps it open
    yard.retire(2)

    def refused() -> bool:
        yard.pump()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) != 0

    until(refused, what="the port to be closed")


def test_rpc_listener_of_a_slot_outlives_its_worker(yard):
    path = yard.folder / "rpc" / "billing" / "3.sock"
    source = f"""
        class S(forkd.Server):
            def init(self, service):
                super().init(service)
                say(service.listen("unix:{path}").getsockname())
    """
    spec = yard.spec(source, topic="billing", server="app:S")
    (yard.folder / "code" / "app.py").write_text(
        (yard.folder / "code" / "app.py").read_text().replace("forkd.Server", "forkd.rpc.Server")
    )
    zygote = yard.zygote(spec)
    worker = yard.worker(zygote, slot=3)
    assert yard.line() == str(path)
    inode = path.stat().st_ino
    yard.signal(worker, KILL)
    yard.until(Exited, worker)
    yard.worker(zygote, slot=3)
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o600
    yard.retire()
    assert not path.exists()


def test_a_unix_listener_whose_file_was_removed_comes_back_with_the_next_generation(yard):
    path = yard.folder / "shop.sock"
    source = f"""
        class S(forkd.Server):
            def init(self, service):
                super().init(service)
                say(service.listen("unix:{path}").getsockname(), os.stat("{path}").st_ino)
    """
    spec = yard.spec(source, bind=(f"unix:{path}",))
    first = yard.worker(yard.zygote(spec))
    before = yard.line()
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.settimeout(PATIENCE)
        waiting.connect(str(path))
        path.unlink()
        second = yard.worker(yard.zygote(spec, generation=2))
        assert yard.line() != before
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        yard.signal(first, KILL)
        yard.until(Exited, first)
        assert select.select([waiting], [], [], 0)[0] == []  # it may still be accepted by who has the old one
        yard.retire(1)
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    assert path.exists()
    yard.signal(second, KILL)
    yard.until(Exited, second)
    yard.retire(2)
    assert not path.exists()


def test_the_place_of_somebody_else_is_not_taken(yard):
    path = yard.folder / "shop.sock"
    spec = yard.spec(PLAIN, bind=(f"unix:{path}",))
    yard.zygote(spec)
    path.unlink()
    with sockets.listen(f"unix:{path}", 5):
        failed = yard.start_zygote(spec, generation=2)
        assert yard.until(Failed, failed).error == f"cannot listen on unix:{path}: somebody is listening there"
    yard.retire(1)
    assert path.exists()


def test_an_rpc_listener_whose_file_was_removed_comes_back_with_the_next_worker(yard):
    path = yard.folder / "rpc" / "billing" / "0.sock"
    zygote = yard.zygote(yard.spec("from forkd import rpc\nclass S(rpc.Server): pass", topic="billing"))
    worker = yard.worker(zygote)
    shutil.rmtree(yard.folder / "rpc")
    yard.signal(worker, KILL)
    yard.until(Exited, worker)
    yard.worker(zygote)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_nothing_leaks_over_many_lives(yard):
    zygote = yard.zygote(yard.spec(PLAIN))
    yard.signal(yard.worker(zygote), KILL)
    yard.until(Exited)
    counts = []
    for _ in range(50):
        worker = yard.worker(zygote)
        counts.append((fds(), fds(yard.pid(zygote)), fds(yard.pid(worker))))
        yard.signal(worker, KILL)
        yard.until(Exited, worker)
    # A zygote makes its spare and notices a death in its own time, so single counts differ; but they do not grow.
    for who in zip(*counts, strict=True):
        assert min(who[-10:]) <= min(who[:10])
