"""A service under pdb on a terminal, by `forkd run` and by a script's `ServiceLauncher`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.functional.installed import COMMAND

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

BROKEN = """
import forkd

class Broken(forkd.Server):
    turns = 0

    @forkd.periodic_task(0.05)
    def turn(self):
        self.turns += 1
        print("turn", self.turns)
        if self.turns == 2:
            breakpoint()

    def stop(self, graceful=True):
        print("drains" if graceful else "gives up")
"""

SCRIPT = """
import sys
import forkd.threadgroup
forkd.threadgroup.prepare(sys.argv[1])
from broken import Broken

launcher = forkd.ServiceLauncher()
launcher.launch_service(forkd.Service(Broken(), concurrency=sys.argv[1]))
launcher.wait()
"""

TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A terminal whose foreground process is a command."""

    def __init__(self, *command: str | os.PathLike[str], cwd: pathlib.Path) -> None:
        self._fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *command],
            stdin=inner, stdout=inner, stderr=inner, cwd=cwd, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self._seen = ""

    def until(self, text: str, timeout: float = 30.0) -> None:
        """Read what is shown up to this text."""
        deadline = time.monotonic() + timeout
        while text not in self._seen:
            readable, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"no {text!r} within {timeout} s after {self._seen!r}"
            self._seen += os.read(self._fd, 4096).decode()
        self._seen = self._seen.partition(text)[2]

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def close(self) -> None:
        """End the command, however it is, and the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture(params=["run", "script"])
def terminal(request: pytest.FixtureRequest, tmp_path: pathlib.Path, concurrency: str) -> Iterator[Terminal]:
    """A service that has come to its breakpoint."""
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "script.py").write_text(SCRIPT)
    service = {"server": "broken:Broken", "concurrency": concurrency, "pythonpath": ["."]}
    config = {"runtime_dir": str(tmp_path / "run"), "services": {"broken": service}}
    (tmp_path / "services.yaml").write_text(json.dumps(config))
    run = (COMMAND, "run", "-c", "services.yaml", "broken")
    script = (sys.executable, "script.py", concurrency)
    with contextlib.closing(Terminal(*(run if request.param == "run" else script), cwd=tmp_path)) as terminal:
        terminal.until("(Pdb) ")
        yield terminal


def test_the_prompt_is_answered_and_the_timers_go_on(terminal: Terminal) -> None:
    terminal.type("p self.turns * 1000\n")
    terminal.until("2000")
    terminal.until("(Pdb) ")
    terminal.type("c\n")
    terminal.until("turn 4")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.until("drains")
    assert terminal.process.wait(30) == 0


def test_an_interrupt_at_the_prompt_is_a_graceful_stop_and_the_prompt_stays(terminal: Terminal) -> None:
    terminal.type("\x03")
    terminal.type("p self.turns * 1000\n")
    terminal.until("2000")
    terminal.type("c\n")
    assert terminal.process.wait(30) == 0
