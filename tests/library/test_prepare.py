"""Preparing a process for an engine, in a fresh interpreter: what operators do not see, what is imported, what runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORK = """
import os
if os.fork() == 0:
    threadgroup.after_fork("eventlet")
    group = threadgroup.create("eventlet")
    group.add_thread(print, "green in the child", flush=True).wait()
    os._exit(0)
os.wait()
"""


def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter that prints every warning."""
    return subprocess.run(
        [sys.executable, "-P", *options, "-c", code],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("options", [("-W", "always"), ("-W", "error"), ()])
def test_eventlets_banner_is_seen_neither_at_import_nor_at_a_fork(options):
    done = run("from forkd import threadgroup\nthreadgroup.prepare('eventlet')\n" + FORK, *options)
    assert done.stderr == ""
    assert done.stdout == "green in the child\n"
    assert done.returncode == 0


def test_nor_when_a_service_has_its_own_warnings_filters():
    own = "import warnings\nwarnings.resetwarnings()\nwarnings.simplefilter('always')\n"
    done = run("from forkd import threadgroup\nthreadgroup.prepare('eventlet')\n" + own + FORK)
    assert done.stderr == ""
    assert done.stdout == "green in the child\n"


def test_nor_when_the_process_has_imported_much_before():
    before = "import forkd.service, logging, threading, socket, json, concurrent.futures, queue, ssl, subprocess\n"
    done = run(before + "from forkd import threadgroup\nthreadgroup.prepare('eventlet')\n" + FORK)
    assert done.stderr == ""
    assert done.stdout == "green in the child\n"


def test_a_second_time_changes_nothing():
    done = run(
        "from forkd import threadgroup\nthreadgroup.prepare('eventlet')\nimport socket\nfirst = socket.socket\n"
        "threadgroup.prepare('eventlet')\nassert socket.socket is first"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_was_patched_by_its_owner_is_taken_as_it_is():
    done = run(
        "import eventlet; eventlet.monkey_patch()\nfrom forkd import threadgroup\nthreadgroup.prepare('eventlet')\n"
        "group = threadgroup.create('eventlet')\nassert group.add_thread(int).wait(5)",
        "-W",
        "ignore",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_hub_is_one_that_can_fork_whatever_the_environment_says():
    done = run(
        "from forkd import threadgroup\nthreadgroup.prepare('eventlet')\nimport eventlet.hubs\n"
        "print(type(eventlet.hubs.get_hub()).__module__)",
        EVENTLET_HUB="asyncio",
    )
    assert done.stdout == "eventlet.hubs.epolls\n"


def test_a_service_of_native_threads_never_imports_eventlet():
    done = run(
        "import sys\nfrom forkd import Server, Service, ServiceLauncher, threadgroup\nthreadgroup.prepare('threads')\n"
        "launcher = ServiceLauncher()\nlauncher.launch_service(Service(Server(), concurrency='threads'))\n"
        "launcher.stop()\nlauncher.wait()\nassert not {'eventlet', 'greenlet'} & set(sys.modules)"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_prepared_is_what_the_standard_library_does():
    done = run(
        "from forkd import threadgroup\nthreadgroup.prepare('eventlet')\n"
        "import threading, time\ngroup = threadgroup.create('eventlet')\nnames = []\n"
        "def work():\n    time.sleep(0.01)\n    names.append(threading.current_thread().name)\n"
        "group.add_thread(work); group.add_thread(work); group.wait()\n"
        "assert len(set(names)) == 2, names\n"
        "from eventlet.green.threading import _count\n"
        "import logging; logging.warning('done')"
    )
    assert done.stderr == "WARNING:root:done\n"
    assert done.returncode == 0


def test_a_process_that_eventlet_has_patched_launches_no_other():
    done = run(
        "from forkd import Server, Service, ProcessLauncher, threadgroup\nthreadgroup.prepare('eventlet')\n"
        "ProcessLauncher().launch_service(Service(Server()))"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "forkd.errors.ForkdError: eventlet has patched this process: launch services before that; "
        "workers do it themselves"
    )
