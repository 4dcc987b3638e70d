"""The files of a service's ports come to its zygote alone, in memory, read while that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkd import process, tls_files
from forkd.core.events import Exited
from forkd.core.spec import TlsSpec

SAY = """
    import ssl
    def seen():
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
        environ = open("/proc/self/environ").read() + str(os.environ)
        return [link for link in links if "tls" in link], "PRIVATE" in environ
    say("imported", seen())
    class S(forkd.Server):
        def start(self):
            say("started", seen())
"""
NOTHING = "([], False)"


@pytest.mark.parametrize("preload", [True, False])
def test_nothing_is_left_of_them_that_code_could_find(yard, pair, preload):
    zygote = yard.zygote(yard.spec(SAY, tls=TlsSpec(*pair), preload=preload))
    if preload:
        assert yard.line() == f"imported {NOTHING}"
    yard.worker(zygote)
    if not preload:
        assert yard.line() == f"imported {NOTHING}"
    assert yard.line() == f"started {NOTHING}"


def test_each_zygote_reads_them_anew(yard, pair):
    keyfile = yard.folder / "key"
    keyfile.write_text(Path(pair.keyfile).read_text())
    spec = yard.spec(SAY, tls=TlsSpec(pair.certfile, str(keyfile)))
    yard.zygote(spec)
    keyfile.unlink()
    zygote = yard.start_zygote(spec, generation=2)
    yard.until(Exited, zygote)
    failed = yard.of(zygote)[1]
    assert failed.error == f"cannot start the zygote: tls.keyfile: {keyfile}: cannot read: no such file or directory"
    assert failed.traceback == ""


def test_files_that_do_not_fit_are_told(yard, pair, authority):
    zygote = yard.start_zygote(yard.spec(SAY, tls=TlsSpec(pair.certfile, authority.issue("another").keyfile)))
    yard.until(Exited, zygote)
    assert "does not fit the first certificate in" in yard.of(zygote)[1].error


def test_they_are_read_before_the_user_is_dropped(yard, pair, monkeypatch):
    """The user that the service runs as may not read the key."""
    order = []
    read = tls_files.read

    def note(spec):
        order.append("files")
        return read(spec)

    monkeypatch.setattr(tls_files, "read", note)
    monkeypatch.setattr(process, "become", lambda who: order.append("user"))
    monkeypatch.setattr(os, "execve", lambda *_: (yard.folder / "order").write_text(repr(order)) and os._exit(0))
    zygote = yard.start_zygote(yard.spec(SAY, tls=TlsSpec(*pair), user="nobody"))
    yard.until(Exited, zygote)
    assert (yard.folder / "order").read_text() == repr(["files", "user"])
