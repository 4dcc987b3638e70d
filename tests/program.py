"""A server that others have written, as a process of the tests' own: started, stopped, killed and suspended by its pid."""

from __future__ import annotations

import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Self

from tests.ports import Ports
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TO_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")


class Program:
    """Serves on `port` of `host` from `start` to `stop`, any number of times, and leaves nothing behind after `end`.

    All that it writes is in its folder. `under` is the command that it is run by, for one that is to run elsewhere.
    """

    READY = ""  # what it says when it serves; from here it may be out of reach
    STOP, KILL = signal.SIGTERM, signal.SIGKILL

    def __init__(self, folder: Path, host: str, under: Sequence[str] = ()) -> None:
        self.folder = folder
        self.host = host
        self.ports = Ports()
        self.port = self.ports.take()
        self.environment: Mapping[str, str] | None = None  # ours
        self.process: subprocess.Popen[bytes] | None = None
        self._under = under

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def command(self) -> list[str]:
        """Return its command line."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [*self._under, *TO_DIE_WITH_US, *self.command()],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until(self._is_ready, 90.0, f"{type(self).__name__} serves")  # Erlang, on a busy machine

    def stop(self) -> None:
        """Have it end in good order."""
        self._end(self.STOP)

    def kill(self) -> None:
        """Have it end at once."""
        self._end(self.KILL)

    def signal(self, signum: int) -> None:
        """Signal its process."""
        assert self.process is not None
        self.process.send_signal(signum)

    def suspend(self) -> None:
        """Have it do nothing, with its connections open."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it if it runs, and remove what it wrote."""
        self.kill()
        self.ports.close()
        shutil.rmtree(self.folder)

    def output(self) -> str:
        """Return what it has said since it was started."""
        return (self.folder / "output").read_text(errors="replace")

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output()[-4000:]
        return self.READY in self.output()

    def _end(self, signum: int) -> None:
        if self.process is not None:
            self.signal(signum)
            self.resume()
            self.process.wait(60)
            self.process = None
