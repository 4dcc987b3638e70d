"""Signals, forks, listening sockets: each as close to the system as it gets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from forkd import process, sockets
from forkd.errors import ForkdError
from forkd.signals import Signals, blocked
from tests.waiting import until


@pytest.fixture
def signals():
    signals = Signals()
    yield signals
    signals.reset()


def test_signals_are_given_once_each(signals):
    signals.install({signal.SIGTERM, signal.SIGUSR1})
    with blocked():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
            signal.raise_signal(number)  # to this thread: the test runner may have others
        assert signals.take() == []
    assert sorted(signals.take()) == [signal.SIGUSR1, signal.SIGTERM]
    assert signals.take() == []


def test_nothing_is_lost_in_a_storm(signals):
    signals.install({signal.SIGHUP, signal.SIGTERM})
    for _ in range(70_000):  # more than the pipe holds
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
    assert signals.take() == [signal.SIGHUP, signal.SIGTERM]
    assert signals.take() == []


def test_a_signal_that_is_overheard_keeps_its_handler(signals):
    heard = []
    signals.install({signal.SIGTERM})
    signals.overhear(signal.SIGUSR1)
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        signals.wake()
        assert sorted(signals.take()) == [signal.SIGUSR1, signal.SIGTERM]
        assert signals.take() == []
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1] * 2


def test_children_that_are_signalled_at_once_never_reach_their_parent(signals):
    signals.install({signal.SIGTERM, signal.SIGHUP})
    for count in range(1000):
        number = (signal.SIGTERM, signal.SIGHUP)[count % 2]

        def child() -> int:
            while True:
                signal.pause()

        pid = process.fork(child, signals.reset)
        os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == number
    assert signals.take() == []


def test_a_child_never_returns_into_its_parents_code(capfd):
    def fails() -> int:
        raise RuntimeError("of the child alone")

    pid = process.fork(fails, lambda: None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "of the child alone" in capfd.readouterr().err
    assert os.waitstatus_to_exitcode(os.waitpid(process.fork(lambda: 7, lambda: None), 0)[1]) == 7


@pytest.mark.parametrize("before", [True, False], ids=["imported before", "imported after"])
def test_signals_under_eventlet(before):
    code = """
        import os, signal, warnings
        warnings.simplefilter("ignore")
        {first}
        import eventlet
        eventlet.monkey_patch()
        from forkd.signals import Signals
        signals = Signals()
        signals.install([signal.SIGTERM])
        eventlet.spawn_after(0.05, os.kill, os.getpid(), signal.SIGTERM)
        eventlet.hubs.trampoline(signals.fileno(), read=True, timeout=10)
        assert signals.take() == [signal.SIGTERM]
        print("taken")
    """
    code = code.format(first="import forkd.signals" if before else "").replace("\n        ", "\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "taken\n", done.stderr


def test_all_signals_at_once_do_not_overflow_the_stack():
    """faulthandler has handlers run on a stack of its own, which a few frames fill on processors with wide registers."""
    code = """
        import os, signal
        from forkd import process
        process.dump_stacks_on_abort()
        names = "KILL STOP SEGV ABRT BUS FPE ILL CONT"  # fatal ones, and one that takes the stopping ones back
        numbers = signal.valid_signals() - {getattr(signal, "SIG" + name) for name in names.split()}
        got = []
        for number in numbers:
            signal.signal(number, lambda number, _: got.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        assert set(got) == numbers
        os.abort()
    """.replace("\n        ", "\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in done.stderr


def test_forked_processes_take_signals_each_on_its_own_stack():
    """Were the stack of the handlers shared, those that get a signal at the same time would crash."""
    code = """
        import os, signal
        from forkd import process
        process.dump_stacks_on_abort()
        signal.signal(signal.SIGUSR1, lambda *_: None)
        start, go = os.pipe()
        def child():
            os.read(start, 1)
            for _ in range(20_000):
                signal.raise_signal(signal.SIGUSR1)
            return 0
        pids = [process.fork(child, lambda: None) for _ in range(4)]
        os.write(go, b"1234")
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert codes == [0, 0, 0, 0], codes
    """.replace("\n        ", "\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_accounts():
    mine = process.account(None, None)
    assert mine[:2] == (os.geteuid(), os.getegid())
    root = process.account("root", None)
    assert root == process.account("0", None) == (0, 0, "root", root.home)
    assert process.account("root", "12345").gid == 12345
    assert process.account("54321", None) == (54321, os.getegid(), None, None)
    with pytest.raises(ForkdError, match="no user 'nobody-of-that-name'"):
        process.account("nobody-of-that-name", None)
    with pytest.raises(ForkdError, match="no group 'nogroup-of-that-name'"):
        process.account(None, "nogroup-of-that-name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_become_is_for_good():
    def child() -> int:
        process.become(process.account("nobody", None))
        try:
            process.become(process.account("root", None))
        except ForkdError:
            return 0 if os.geteuid() != 0 and 0 not in os.getgroups() else 2
        return 3

    assert os.waitstatus_to_exitcode(os.waitpid(process.fork(child, lambda: None), 0)[1]) == 0


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "*:0", "[::1]:0"])
def test_tcp_listeners(address):
    with sockets.listen(address, 5) as sock:
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sockets.label(sock).rpartition(":")[2] not in ("", "0")
        socket.create_connection(
            sock.getsockname()[:2] if "*" not in address else ("127.0.0.1", sock.getsockname()[1])
        ).close()


def test_every_ipv4_and_every_ipv6_address_of_a_port():
    with sockets.listen("0.0.0.0:0", 5) as four:
        port = four.getsockname()[1]
        with sockets.listen(f"[::]:{port}", 5) as six:
            assert six.getsockname()[:2] == ("::", port)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("example.com:80", "'example.com' is not an IP address"),
        ("127.0.0.1:http", "expected host:port"),
        ("127.0.0.1:65536", "expected host:port"),
        ("8080", "expected host:port"),
        ("[::1:80", "is not an IP address"),
        ("[127.0.0.1]:80", "is not an IP address"),
        ("192.0.2.1:80", "cannot assign requested address"),
        ("unix:/nonexistent/sock", "no such file or directory"),
        ("unix:" + "/x" * 100, "too long"),
    ],
)
def test_addresses_that_cannot_be_had(address, why):
    with pytest.raises(ForkdError) as caught:
        sockets.listen(address, 5)
    text = str(caught.value)
    assert text.startswith(f"cannot listen on {address}: ")
    assert why in text
    assert "\n" not in text


def test_taken_ports():
    with sockets.listen("127.0.0.1:0", 5) as sock, pytest.raises(ForkdError, match=r"address already in use$"):
        sockets.listen(sockets.label(sock), 5)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_is_shared_by_those_who_want_it(host):
    with sockets.listen(f"{host}:0", 50, reuse_port=True) as first:
        with sockets.listen(sockets.label(first), 50, reuse_port=True) as second:
            until(lambda: all(served(first, sock) for sock in (first, second)), what="a connection to each")
        with pytest.raises(ForkdError, match=r"in use; who listens there shares it with programs that .*reuse_port"):
            sockets.listen(sockets.label(first), 5)
        served(first, first)  # whoever only tries takes no connection


def test_a_port_is_shared_from_then_on(short_tmp):
    with sockets.listen("127.0.0.1:0", 50) as first, sockets.listen(f"unix:{short_tmp}/s", 5) as path:
        with pytest.raises(ForkdError, match=r"in use by a program that does not share it, or that is another user's$"):
            sockets.listen(sockets.label(first), 50, reuse_port=True)
        sockets.share(first)
        sockets.share(path)  # and nothing happens
        with sockets.listen(sockets.label(first), 50, reuse_port=True) as second:
            until(lambda: all(served(first, sock) for sock in (first, second)), what="a connection to each")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_port_is_not_shared_with_another_user():
    with sockets.listen("127.0.0.1:0", 5, reuse_port=True) as sock:
        pid = process.fork(lambda: shares_as_nobody(sockets.label(sock)), lambda: None)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def shares_as_nobody(address: str) -> int:
    process.become(process.account("nobody", None))
    try:
        sockets.listen(address, 5, reuse_port=True)
    except ForkdError as error:
        return int("another user's" not in str(error))
    return 2


def served(where: socket.socket, listener: socket.socket) -> bool:
    """Connect to a port, and return whether one of those who listen there has got a connection."""
    with socket.create_connection(where.getsockname()[:2]), contextlib.suppress(BlockingIOError):
        listener.accept()[0].close()
        return True
    return False


def test_unix_listeners(short_tmp):
    path = short_tmp / "sock"
    address = f"unix:{path}"
    with sockets.listen(address, 5, mode=0o640, owner=(os.getuid(), os.getgid())) as sock:
        assert sockets.label(sock) == address
        assert path.stat().st_mode & 0o777 == 0o640
        with pytest.raises(ForkdError, match="somebody is listening there"):
            sockets.listen(address, 5)
    with sockets.listen(address, 1) as sock:  # the file of a dead one is replaced
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        for _ in range(4):  # fill its queue: it is busy, not dead
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect_ex(str(path))
        with pytest.raises(ForkdError, match="somebody is listening there"):
            sockets.listen(address, 5)
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ForkdError, match="not a socket"):
        sockets.listen(address, 5)
    assert path.read_text() == "precious"
