"""Secrets become variables of the service's processes, and come to nobody else."""

from __future__ import annotations

import os
import pwd

import pytest

from forkd import process, secret_files
from forkd.core.events import Exited
from tests.kernel.yard import Yard

SAY = """
    say("imported", repr(os.environ["DB_URL"]), os.environ.get("A"))
    class S(forkd.Server):
        def start(self):
            say("started", repr(os.environ["DB_URL"]))
"""
VALUE = "postgres://shop:hunter2@db/shop"


def secret(yard: Yard, content: bytes = VALUE.encode()) -> dict[str, str]:
    path = yard.folder / "db"
    path.write_bytes(content)
    path.chmod(0o400)
    return {"DB_URL": str(path)}


def test_code_and_workers_find_it_in_their_environment(yard):
    zygote = yard.zygote(yard.spec(SAY, secrets=secret(yard), environment={"DB_URL": "sqlite://", "A": "a"}))
    assert yard.line() == f"imported {VALUE!r} a"
    yard.worker(zygote)
    assert yard.line() == f"started {VALUE!r}"
    assert "DB_URL" not in os.environ


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"a\n", "a"), (b"a\n\n", "a\n"), (b"", ""), (b"\n", ""), (b" a=b\r\n", " a=b\r"), (b"\xff", "\udcff"), (b"x" * 65536, "x" * 65536)],
)  # fmt: skip
def test_content(tmp_path, content, value):
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert secret_files.variables({"A": str(path)}) == {"A": value}


def test_each_zygote_reads_it_anew(yard):
    spec = yard.spec(SAY, secrets=secret(yard))
    yard.zygote(spec)
    assert yard.line() == f"imported {VALUE!r} None"
    (yard.folder / "db").unlink()
    secret(yard, b"new")
    yard.zygote(spec, generation=2)
    assert yard.line() == "imported 'new' None"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot read: no such file or directory"),
        (b"hunter2\0", "holds a NUL byte, which no environment variable can"),
        (b"hunter2" * 10_000, "larger than 64 KiB"),
    ],
)
def test_one_that_cannot_be_had_is_told_by_its_name_and_path(yard, content, why):
    secrets = {"DB_URL": str(yard.folder / "db")} if content is None else secret(yard, content)
    zygote = yard.start_zygote(yard.spec(SAY, secrets=secrets))
    yard.until(Exited, zygote)
    failed = yard.of(zygote)[1]
    assert failed.error == f"cannot start the zygote: secrets.DB_URL: {yard.folder}/db: {why}"
    assert failed.traceback == ""


def test_a_pipe_is_not_waited_for(yard):
    os.mkfifo(yard.folder / "db")
    zygote = yard.start_zygote(yard.spec(SAY, secrets={"DB_URL": str(yard.folder / "db")}))
    yard.until(Exited, zygote)
    assert yard.of(zygote)[1].error.endswith("db: cannot read: it is no regular file")


def test_it_is_read_before_the_user_is_dropped(yard, monkeypatch):
    """The user that the service runs as may not read the file."""
    order = []
    read = secret_files.variables

    def note(secrets):
        order.append("secrets")
        return read(secrets)

    monkeypatch.setattr(secret_files, "variables", note)
    monkeypatch.setattr(process, "become", lambda who: order.append(who.uid))
    monkeypatch.setattr(os, "execve", lambda *_: (yard.folder / "order").write_text(repr(order)) and os._exit(0))
    zygote = yard.start_zygote(yard.spec(SAY, secrets=secret(yard), user="nobody"))
    yard.until(Exited, zygote)
    assert (yard.folder / "order").read_text() == repr(["secrets", pwd.getpwnam("nobody").pw_uid])
