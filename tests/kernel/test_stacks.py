"""Stacks of a worker's threads, asked for and at its death: however it is stuck, and whatever it tells."""

from __future__ import annotations

import os
import re
import signal

import pytest

from forkd import scoreboard
from forkd.core.commands import DUMP, STACKS, Look
from forkd.core.events import Draining, Exited, Failed, Ready, Seen, Started
from forkd.kernel import hearing
from tests.waiting import until

STUCK_IN_C = """
    import ctypes
    class S(forkd.Server):
        def start(self):
            self.service.thread_group.add_loop(self.hold_the_interpreter)
        def hold_the_interpreter(self):
            self.service.thread_group.sleep(0.01)
            say("stuck")
            lock = ctypes.PyDLL(None).pthread_mutex_lock  # unlike CDLL it keeps the interpreter's lock
            mutex = ctypes.create_string_buffer(64)
            lock(mutex)
            lock(mutex)
"""


def ask(yard, worker, number=STACKS):
    """Ask a worker for its stacks by a signal and return them."""
    before = len(yard.of(worker))
    yard.signal(worker, number)
    until(lambda: yard.pump() or len(yard.of(worker)) > before, 30, "the stacks")
    (seen,) = yard.of(worker)[before:]
    assert isinstance(seen, Seen)
    return seen.stacks


def look(yard, worker):
    (seen,) = yard.perform(Look(worker))
    return seen


def pick(yard, worker, text, number=None):
    """Look until the worker has dumped a text, which nobody has sent; each time ask for it by a signal, if one is given.

    While it is not stuck yet it may answer what was asked before, and empties what it has dumped by then.
    """
    found = ""

    def dumped():
        nonlocal found
        if number is not None:
            yard.signal(worker, number)
        found += look(yard, worker).stacks
        return text in found

    until(dumped, 30, text)


def threads(yard, concurrency, waits="self.service.thread_group.sleep(1000)"):
    """Start a worker with a bystander, and with a thread that waits in a place to be found."""
    source = f"""
        import ctypes
        if {concurrency == "eventlet"}:
            import eventlet.patcher
            time, os = map(eventlet.patcher.original, ("time", "os"))
        class S(forkd.Server):
            def start(self):
                self.service.thread_group.add_loop(self.bystander)
                self.service.thread_group.add_loop(self.a_place_to_be_found)
            def bystander(self):
                self.service.thread_group.sleep(1000)
            def a_place_to_be_found(self):
                self.service.thread_group.sleep(0.01)
                say("here")
                {waits}
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency=concurrency)))
    assert yard.line() == "here"
    return worker


def test_a_worker_sends_its_stacks_as_often_as_it_is_asked(yard, concurrency):
    worker = threads(yard, concurrency)
    assert "_send" not in ask(yard, worker)  # nor what else makes the answer
    for _ in range(2 * hearing.LIFE_LIMIT):
        stacks = ask(yard, worker)
        assert stacks.count("a_place_to_be_found") == 2  # in its name, too
        assert "bystander" in stacks
        assert "Thread MainThread (most" in stacks
    assert look(yard, worker).stacks == ""
    yard.signal(worker, signal.SIGTERM)
    assert yard.until(Exited, worker)[1:] == (0, None, False, False, "")


@pytest.mark.parametrize("waits", ["time.sleep(1000)", "while True: pass", "os.read(os.pipe()[0], 1)"])
def test_a_blocked_hub_is_no_hindrance(yard, waits):
    worker = threads(yard, "eventlet", waits)
    for _ in range(3):
        stacks = ask(yard, worker)
        assert "a_place_to_be_found" in stacks.partition("Green thread")[0]
        assert "Green thread S.bystander (most" in stacks
    yard.signal(worker, signal.SIGABRT)
    exited = yard.until(Exited, worker)
    assert exited.signal == signal.SIGABRT
    assert "a_place_to_be_found" in exited.stacks
    assert "Green thread S.bystander (most" in exited.stacks


def test_one_that_holds_the_interpreter_dumps_what_needs_none(yard, concurrency):
    worker = yard.worker(yard.zygote(yard.spec(STUCK_IN_C, concurrency=concurrency)))
    assert yard.line() == "stuck"
    yard.signal(worker, STACKS)
    for _ in range(2):
        pick(yard, worker, "in hold_the_interpreter", DUMP)
    yard.signal(worker, signal.SIGABRT)
    pick(yard, worker, "Fatal Python error: Aborted")
    yard.signal(worker, signal.SIGKILL)
    assert yard.until(Exited, worker).signal == signal.SIGKILL


def test_what_is_dumped_is_new_though_it_is_as_before_the_last_answer(yard):
    source = f"""
        class S(forkd.Server):
            def start(self):
                self.answer = signal.signal({STACKS}, lambda *_: None)
            def reset(self):
                self.answer({STACKS}, None)
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency="eventlet")))
    for _ in range(2):
        yard.signal(worker, STACKS)
        yard.signal(worker, DUMP)
        pick(yard, worker, "most recent call first")
        assert "Thread MainThread" in ask(yard, worker, signal.SIGHUP)


def test_one_whose_drain_does_not_end_leaves_its_stacks(yard, concurrency):
    source = """
        class S(forkd.Server):
            def stop(self, graceful=True):
                self.a_place_to_be_found()
            def a_place_to_be_found(self):
                say("stuck")
                self.service.thread_group.sleep(1000)
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency=concurrency)))
    yard.signal(worker, signal.SIGTERM)
    assert yard.line() == "stuck"
    yard.signal(worker, signal.SIGABRT)
    exited = yard.until(Exited, worker)
    assert (exited.code, exited.signal) == (None, signal.SIGABRT)
    assert "in a_place_to_be_found" in exited.stacks or "in S.a_place_to_be_found" in exited.stacks


def test_a_crash_leaves_its_stacks(yard, concurrency):
    exited = yard.until(Exited, threads(yard, concurrency, "ctypes.string_at(0)"))
    assert exited.signal == signal.SIGSEGV
    assert exited.stacks.startswith("Fatal Python error: Segmentation fault")
    assert "a_place_to_be_found" in exited.stacks


def test_a_worker_that_does_not_end_its_import_leaves_its_stacks(yard):
    source = """
        def a_place_to_be_found():
            say("importing")
            signal.pause()
        a_place_to_be_found()
    """
    worker = yard.spawn(yard.zygote(yard.spec(source, preload=False)))
    assert yard.line() == "importing"
    yard.signal(worker, signal.SIGABRT)
    exited = yard.until(Exited, worker)
    assert exited.signal == signal.SIGABRT
    assert "a_place_to_be_found" in exited.stacks


def test_a_thousand_green_threads_fit(yard):
    source = """
        class S(forkd.Server):
            def start(self):
                for number in range(1000):
                    self.service.thread_group.add_thread(self.dive, number % 250)
                self.service.thread_group.add_loop(say, "here")
            def dive(self, depth):
                self.dive(depth - 1) if depth else self.service.thread_group.sleep(1000)
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency="eventlet", threads=1001)))
    assert yard.line() == "here"
    stacks = ask(yard, worker)
    assert len(stacks) < scoreboard.TAIL
    assert "4 alike (most recent call first)" in stacks
    assert stacks.rstrip().rpartition("\n")[2].endswith("more green threads")
    told = sum(int(line.split()[-6]) for line in stacks.splitlines() if "alike" in line)
    assert 0 < told < 1000


def test_stacks_on_stderr_have_the_green_threads(yard, capfd):
    worker = threads(yard, "eventlet")
    os.kill(yard.pid(worker), signal.SIGUSR2)
    until(lambda: "a_place_to_be_found" in os.pread(2, 1_000_000, 0).decode(), what="the stacks")
    assert look(yard, worker).stacks == ""
    shown = capfd.readouterr().err
    assert "Thread MainThread (most" in shown
    assert "Green thread S.a_place_to_be_found" in shown


def test_a_reader_of_stderr_that_reads_nothing_holds_up_no_worker(yard):
    source = """
        class S(forkd.Server):
            def start(self):
                import posix
                read, write = os.pipe()
                os.set_blocking(write, False)
                while True:
                    try:
                        posix.write(write, b"x" * 4096)
                    except BlockingIOError:
                        break
                os.set_blocking(write, True)
                os.dup2(write, 2)
            def reset(self):
                say("reset")
    """
    worker = yard.worker(yard.zygote(yard.spec(source, concurrency="eventlet")))
    os.kill(yard.pid(worker), signal.SIGUSR2)
    yard.signal(worker, signal.SIGHUP)
    assert yard.line() == "reset"


def test_a_fork_of_a_worker_shows_nothing_as_the_workers(yard, concurrency):
    source = f"""
        class S(forkd.Server):
            def start(self):
                for number in ({STACKS}, {DUMP}):
                    child = os.fork()
                    if child == 0:
                        try:
                            signal.pause()
                        finally:
                            os._exit(3)
                    os.kill(child, number)
                    say(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                child = os.fork()
                if child == 0:
                    os.abort()
                say(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    worker = yard.spawn(yard.zygote(yard.spec(source, concurrency=concurrency)))
    assert yard.line() == str(STACKS)
    assert yard.line() == str(DUMP)
    assert yard.line() == str(signal.SIGABRT.value)
    yard.until(Ready, worker)
    assert look(yard, worker).stacks == ""


def test_a_fork_of_a_worker_shows_no_green_threads_for_they_are_the_workers(yard, capfd):
    source = """
        class S(forkd.Server):
            def start(self):
                self.service.thread_group.add_loop(self.bystander)
                self.service.thread_group.sleep(0.01)
                child = os.fork()
                if child == 0:
                    os.kill(os.getpid(), signal.SIGUSR2)
                    os._exit(0)
                os.waitpid(child, 0)
            def bystander(self):
                self.service.thread_group.sleep(1000)
    """
    yard.worker(yard.zygote(yard.spec(source, concurrency="eventlet")))
    shown = capfd.readouterr().err
    assert "Thread MainThread (most" in shown
    assert "Green thread" not in shown


@pytest.mark.parametrize("stacks", ["7", "'x' * 70_000", "None"])
def test_stacks_that_nobody_can_believe_end_the_worker(yard, stacks):
    source = f"""
        import json
        class S(forkd.Server):
            def start(self):
                for fd in range(3, 100):
                    try:
                        os.write(fd, json.dumps({{"type": "dumped", "stacks": {stacks}}}).encode())
                    except OSError:
                        pass
                signal.pause()
    """
    worker = yard.spawn(yard.zygote(yard.spec(source)))
    exited = yard.until(Exited, worker)
    assert yard.kinds(worker) == [Started, Failed, Exited]
    assert (exited.signal, exited.oom) == (signal.SIGKILL, False)


def test_any_bytes_in_the_tail_are_text(yard):
    source = """
        import mmap
        class S(forkd.Server):
            def start(self):
                for fd in range(3, 100):
                    try:
                        board = mmap.mmap(fd, 0)
                    except (OSError, ValueError):
                        continue
                    board[-48 * 1024:] = os.urandom(48 * 1024)
    """
    worker = yard.worker(yard.zygote(yard.spec(source)))
    assert look(yard, worker).stacks == ""  # nobody has asked for any
    yard.signal(worker, STACKS)

    def seen():
        yard.pump()
        look(yard, worker)  # what stands there and is no answer
        return [event.stacks for event in yard.of(worker) if isinstance(event, Seen) and event.stacks]

    assert all(len(stacks) <= scoreboard.TAIL for stacks in until(seen, 30, "what stands there"))
    yard.signal(worker, signal.SIGTERM)
    assert len(yard.until(Exited, worker).stacks) <= scoreboard.TAIL
    assert Draining in yard.kinds(worker)


def test_a_look_takes_no_memory_for_stacks_that_nobody_has_dumped(yard):
    worker = yard.worker(yard.zygote(yard.spec("class S(forkd.Server): pass")))
    look(yard, worker)
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as file:
        board = file.read().partition("forkd-scoreboard")[2]
    assert int(re.search(r"^Rss: +(\d+)", board, re.MULTILINE)[1]) * 1024 < scoreboard.TAIL


@pytest.mark.parametrize("handler", ["", "signal.signal(signal.SIGUSR1, lambda *_: say('heard'))"])
@pytest.mark.parametrize("preload", [True, False])
def test_usr1_is_for_the_services_code_and_else_for_nobody(yard, handler, preload):
    source = f"""
        {handler}
        class S(forkd.Server):
            def reset(self):
                say("reset")
    """
    worker = yard.worker(yard.zygote(yard.spec(source, preload=preload)))
    yard.signal(worker, signal.SIGUSR1)
    if handler:
        assert yard.line() == "heard"
    yard.signal(worker, signal.SIGHUP)
    assert yard.line() == "reset"
