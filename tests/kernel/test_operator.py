"""What operators ask of the launcher by signals, what it sleeps for, and the reading of its configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from forkd.core.commands import ReadConfig
from forkd.core.events import ConfigRead, ConfigRefused, Exited, Reload, Scale, SignalWorkers, Stop
from tests.kernel.yard import KILL
from tests.waiting import until


def after(yard, *numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
    return yard.kernel.wait(yard.kernel.now() + 10)


def test_signals_become_requests(yard):
    assert after(yard, signal.SIGHUP) == [Reload()]
    assert after(yard, signal.SIGTERM) == [Stop()]
    assert after(yard, signal.SIGINT) == [Stop(quick=True)]  # whichever it is: the second one
    assert after(yard, signal.SIGQUIT) == [Stop(quick=True)]
    assert after(yard, signal.SIGUSR1) == [SignalWorkers(0, None, None, signal.SIGUSR1)]
    assert after(yard, signal.SIGTTIN) == [Scale(0, None, 1, relative=True)]
    assert after(yard, signal.SIGTTOU) == [Scale(0, None, -1, relative=True)]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGCHLD])
def test_signals_without_a_meaning_are_harmless(yard, number):
    assert after(yard, number) == []


def test_wait_ends_at_its_deadline_and_not_before(yard):
    deadline = yard.kernel.now() + 0.05
    assert yard.kernel.wait(deadline) == []
    assert yard.kernel.now() >= deadline
    assert yard.kernel.wait(deadline - 100) == []


def test_no_deadline_is_too_far(yard):
    os.kill(os.getpid(), signal.SIGHUP)
    assert yard.kernel.wait(1e300) == [Reload()]


def test_what_is_watched(yard):
    read, write = os.pipe2(os.O_NONBLOCK)
    yard.kernel.watch(read, lambda: [Reload(ticket=os.read(read, 100)[0])])
    os.write(write, b"\x07")
    assert yard.kernel.wait(None) == [Reload(ticket=7)]
    yard.kernel.unwatch(read)
    yard.kernel.unwatch(read)
    os.write(write, b"\x08")
    assert yard.kernel.wait(yard.kernel.now()) == []
    yard.kernel.watch(write, lambda: [Stop()], write=True)
    assert yard.kernel.wait(None) == [Stop()]
    yard.kernel.unwatch(write)
    os.close(read)
    os.close(write)


def read(yard):
    assert yard.perform(ReadConfig()) == []

    def answer():
        yard.pump()
        return [event for event in yard.events if isinstance(event, ConfigRead | ConfigRefused)]

    (event,) = until(answer, 30, "the configuration")
    yard.events.clear()
    return event


def test_configuration_is_read(yard):
    file = yard.folder / "services.yaml"
    file.write_text(f"runtime_dir: {yard.folder}\nservices: {{shop: {{server: 'app:S', workers: 3}}}}\n")
    event = read(yard)
    assert isinstance(event, ConfigRead)
    assert [(spec.name, spec.workers) for spec in event.config.services] == [("shop", 3)]


def test_configuration_is_refused(yard):
    (yard.folder / "services.yaml").write_text("services: {shop: {server: 'app:S', workers: four}}\n")
    event = read(yard)
    assert isinstance(event, ConfigRefused)
    assert "services.shop.workers" in event.problems[0]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\nexit 3\n", "its reader failed with exit code 3"),
        ("#!/bin/sh\nkill -9 $$\n", "its reader was killed by signal 9"),
        ("#!/bin/sh\necho '{\"config\": 7}'\n", "its reader gave no answer that makes sense"),
        ("#!/bin/sh\necho '[]'\n", "its reader gave no answer that makes sense"),
        ("#!/bin/sh\nyes | head -c 20000000\n", "its reader was killed by signal 9"),
    ],
)
def test_reader_that_goes_wrong(yard, monkeypatch, script, why):
    fake = yard.folder / "python"
    fake.write_text(script)
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert read(yard) == ConfigRefused((f"cannot read the configuration: {why}",))


def test_asking_again_is_answered_once_and_by_the_file_as_it_is(yard):
    file = yard.folder / "services.yaml"
    file.write_text("nonsense")
    yard.perform(ReadConfig())
    file.write_text(f"runtime_dir: {yard.folder}\nservices: {{shop: {{server: 'app:S'}}}}\n")
    assert isinstance(read(yard), ConfigRead)


def test_operator_and_workers_are_heard_while_the_configuration_is_read(yard, monkeypatch):
    zygote = yard.zygote(yard.spec("class S(forkd.Server): pass"))
    fake = yard.folder / "python"
    fake.write_text("#!/bin/sh\nexec sleep 1000\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    yard.perform(ReadConfig())
    worker = yard.worker(zygote)
    yard.signal(worker, KILL)
    yard.until(Exited, worker)
    assert after(yard, signal.SIGTERM) == [Stop()]


def test_a_signal_after_the_end_changes_no_exit_status(short_tmp):
    code = """
        import os, signal, sys
        from forkd.kernel import Kernel
        kernel = Kernel("", sys.argv[1])
        kernel.close()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
            os.kill(os.getpid(), number)
    """.replace("\n        ", "\n")
    done = subprocess.run([sys.executable, "-c", code, str(short_tmp)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
