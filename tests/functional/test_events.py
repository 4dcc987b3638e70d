"""`forkd events`: what has happened and what happens, for people and for programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import COMMAND, Installed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO |WARNING|ERROR) [\w/]+: .+")


class Follower:
    """A `forkd events --follow` whose output goes to files."""

    def __init__(self, forkd: Installed, *arguments: str) -> None:
        self.out, self.err = forkd.folder / "events.out", forkd.folder / "events.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [COMMAND, "events", "--follow", "--runtime-dir", forkd.runtime_dir, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=forkd.environment(), cwd=forkd.folder,
            )  # fmt: skip

    def told(self) -> list[dict[str, Any]]:
        """Return the whole lines of JSON so far."""
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def running(forkd: Installed) -> Installed:
    forkd.configure({"web": forkd.web(concurrency="threads"), "other": forkd.web(bind=["unix:other.sock"])})
    return forkd.start()


@pytest.fixture
def follower(running: Installed) -> Iterator[Follower]:
    follower = Follower(running, "--json", "web")
    until(lambda: any(one["kind"] == "ready" for one in follower.told()), what="the first events")
    yield follower
    follower.close()


def test_what_has_happened_is_told_to_people_and_to_programs(running: Installed) -> None:
    (pid,) = running.workers("web")
    text = running.run("events")
    assert (text.returncode, text.stderr) == (0, "")
    assert all(LINE.fullmatch(line) for line in text.stdout.splitlines())
    assert f"INFO  web/0: ready, pid {pid}, generation 1\n" in text.stdout
    assert " other/0: ready" in text.stdout
    done = running.run("events", "--json", "web")
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["origin"] for event in events} == {"web", "web/0"}
    (ready,) = [event for event in events if event["kind"] == "ready"]
    assert {**ready, "seq": 0, "at": "", "id": 0} == {
        "kind": "ready", "seq": 0, "at": "", "level": "info", "origin": "web/0",
        "text": f"ready, pid {pid}, generation 1",
        "service": "web", "slot": 0, "id": 0, "pid": pid, "generation": 1,
    }  # fmt: skip


def test_a_service_that_is_not_there_is_named_with_those_that_are(running: Installed) -> None:
    done = running.run("events", "wbe")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "forkd: events failed: no service is named 'wbe'; there are: web, other\n"


def test_followed_they_go_on_until_the_launcher_stops(running: Installed, follower: Follower) -> None:
    (pid,) = running.workers("web")
    os.kill(pid, signal.SIGKILL)
    until(lambda: len([one for one in follower.told() if one["kind"] == "ready"]) == 2, what="the successor")
    (exited,) = [one for one in follower.told() if one["kind"] == "exited"]
    assert (exited["pid"], exited["ok"], exited["reason"]) == (pid, False, "killed by operator or kernel")
    assert running.run("stop").returncode == 0
    assert follower.process.wait(20) == 0
    assert follower.err.read_text() == "forkd: the launcher has stopped\n"
    told = follower.told()
    assert [one["kind"] for one in told if one["origin"] == "launcher"] == ["stopping"]
    assert [one["seq"] for one in told] == sorted({one["seq"] for one in told})


def test_followed_they_end_when_the_launcher_is_killed(running: Installed, follower: Follower) -> None:
    running.signal(signal.SIGKILL)
    assert follower.process.wait(20) == 0
    assert follower.err.read_text() == "forkd: the launcher has stopped\n"


def test_an_interrupt_ends_the_following(follower: Follower) -> None:
    follower.process.send_signal(signal.SIGINT)
    assert follower.process.wait(20) == 130
    assert follower.err.read_text() == ""


def test_a_reader_that_has_seen_enough_ends_it_quietly(running: Installed) -> None:
    process = subprocess.Popen(
        [COMMAND, "events", "-f", "--runtime-dir", running.runtime_dir],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=running.environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    os.kill(running.workers("web")[0], signal.SIGKILL)
    process.wait(20)
    assert process.stderr.read() == b""
    process.stderr.close()
