"""A Redis and a PostgreSQL of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

from forkd.lease.address import parse
from forkd.lease.contact import opened
from tests.program import Program
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

POSTGRESQL = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql is missing"))
USER = "postgres"  # PostgreSQL refuses to be run by root
GUARDED, PASSWORD = "keeper", "hunter/2@x"  # who is let in by a password alone


class Redis(Program):
    """Redis, which writes nothing to the disk unless it is `durable`."""

    READY = "Ready to accept connections"

    def __init__(self, folder: Path, host: str = "127.0.0.1", under: Sequence[str] = (), durable: bool = True) -> None:
        super().__init__(folder, host, under)
        self.durable = durable

    @property
    def url(self) -> str:
        """As in `lease`."""
        return f"redis://{self.host}:{self.port}/0?ttl=1s"

    def command(self) -> list[str]:
        # No fsync, nor below by -F: what a crash of the machine would lose is not what is tested.
        return [
            "redis-server", "--port", str(self.port), "--bind", self.host, "--dir", str(self.folder), "--save", "",
            "--protected-mode", "no", "--appendonly", "yes" if self.durable else "no", "--appendfsync", "no",
        ]  # fmt: skip

    def client(self) -> redis.Redis:
        return redis.Redis(self.host, self.port, socket_timeout=5)

    def guard(self) -> None:
        """Have it know of GUARDED."""
        with self.client() as client:
            client.acl_setuser(
                GUARDED, enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@all"], keys=["forkd:*"]
            )


class Postgresql(Program):
    """PostgreSQL, with a database and a user of the name `postgres`, who needs no password."""

    READY = "database system is ready to accept connections"
    STOP, KILL = signal.SIGINT, signal.SIGQUIT  # whether clients stay or not; and so that it ends all its processes

    def __init__(self, folder: Path, host: str = "127.0.0.1", under: Sequence[str] = ()) -> None:
        super().__init__(folder, host, [*under, *_as_user()])

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
        subprocess.run([*_as_user(), *initdb], check=True, capture_output=True, cwd="/")
        (data / "pg_hba.conf").write_text(f"host all {GUARDED} all scram-sha-256\nhost all all all trust\n")

    def command(self) -> list[str]:
        return [
            str(POSTGRESQL / "postgres"), "-D", str(self.folder / "data"), "-F", "-p", str(self.port),
            "-h", self.host, "-k", "", "-c", "shared_buffers=1MB", "-c", "dynamic_shared_memory_type=mmap",
            "-c", "lc_messages=C",
        ]  # fmt: skip

    def execute(self, statement: str) -> None:
        """Have it execute a statement."""
        address = f"postgresql://{USER}@{self.host}:{self.port}/postgres"
        with psycopg.connect(address, connect_timeout=5, autocommit=True) as connection:
            connection.execute(statement)

    def guard(self) -> None:
        """Have it know of GUARDED."""
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            self.execute(f"CREATE ROLE {GUARDED} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")


def await_free(url: str, task: str) -> None:
    """Wait until nobody has a task, as others may have left it; nor may a Redis that might have forgotten who has."""
    with contextlib.closing(opened(parse(url), 10.0)) as backend:
        until(lambda: backend.look(task, begin=True).left == 0, what=f"nobody has {task}")


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--"]


KINDS: dict[str, type[Redis | Postgresql]] = {"redis": Redis, "postgresql": Postgresql}
