"""A Redis and a PostgreSQL of a test's own, on free ports of the loopback: started, stopped, killed and frozen by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

POSTGRESQL = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql is missing"))
USER = "postgres"  # PostgreSQL refuses to be run by root
PASSWORD = "hunter/2@x"


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process that serves on `port` of `host`, from data in a folder."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", under: Sequence[str] = ()) -> None:
        """`under` is the command that its process is to be run by."""
        self.folder = folder
        self.host = host
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._under = under

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._under, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        try:
            until(self.answers, 30, "an answer")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def stop(self, signum: int = signal.SIGINT) -> None:
        """End it, gracefully, or at once by SIGKILL."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signum)
            self.process.wait(30)
            self.process = None

    def signal(self, signum: int) -> None:
        """Signal its process."""
        assert self.process is not None
        os.kill(self.process.pid, signum)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError


class Redis(Server):
    """Redis, which writes nothing to the disk unless it is `durable`."""

    kind = "redis"

    def __init__(self, folder: Path, host: str = "127.0.0.1", under: Sequence[str] = (), durable: bool = True) -> None:
        super().__init__(folder, host, under)
        self.durable = durable

    @property
    def url(self) -> str:
        """As in `lease`."""
        return f"redis://{self.host}:{self.port}/0?ttl=1s"

    def command(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", self.host, "--dir", str(self.folder), "--save", "",
            "--protected-mode", "no", "--appendonly", "yes" if self.durable else "no", "--appendfsync", "always",
        ]  # fmt: skip

    def client(self) -> redis.Redis:
        return redis.Redis(self.host, self.port, socket_timeout=5)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class Postgresql(Server):
    """PostgreSQL, with a database and a user of the name `postgres`, whose password is PASSWORD on TCP."""

    kind = "postgresql"

    @property
    def url(self) -> str:
        """As in `lease`."""
        return f"postgresql://{USER}@{self.host}:{self.port}/postgres?ttl=1s"

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self._make()
        super().start()

    def _make(self) -> None:
        for folder in (self.folder, *self.folder.parents):
            if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):  # so that USER gets to the data
                folder.chmod(folder.stat().st_mode | 0o011)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, USER)
        initdb = [str(POSTGRESQL / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-N", "--no-instructions"]
        subprocess.run([*self._as_user(), *initdb], check=True, capture_output=True, cwd="/")
        (data / "pg_hba.conf").write_text("host all all all trust\n")

    def command(self) -> list[str]:
        # -F: what a crash of the machine would lose is not what is tested.
        return [
            *self._as_user(), str(POSTGRESQL / "postgres"), "-D", str(self.folder / "data"), "-F", "-p", str(self.port),
            "-h", self.host, "-k", "", "-c", "shared_buffers=1MB", "-c", "dynamic_shared_memory_type=mmap",
        ]  # fmt: skip

    def _as_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--"]

    def connect(self) -> psycopg.Connection:
        address = f"postgresql://{USER}@{self.host}:{self.port}/postgres"
        return psycopg.connect(address, connect_timeout=5, autocommit=True)

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.Error:
            return False
        return True


KINDS: dict[str, type[Redis | Postgresql]] = {"redis": Redis, "postgresql": Postgresql}
