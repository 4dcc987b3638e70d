"""Ports that speak TLS: who may read the key, what a reload brings, what is told of files that are of no use."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import COMMAND, Installed, can_be_run_by, catches, connect, loads, memory
from tests.waiting import until

if TYPE_CHECKING:
    from tests.certificates import Authority, Pair

LAST_OF_KEY = slice(-80, -40)  # of a key's text, before its last line

SCRIPT = """
import os, sys
import forkd
from forkd import wsgi

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

engine, port, certfile, keyfile = sys.argv[1:]
options = wsgi.Options(tls=wsgi.TlsSpec(certfile, keyfile))
launcher = forkd.ProcessLauncher()
server = wsgi.Server(application, f"127.0.0.1:{port}", options=options)
launcher.launch_service(forkd.Service(server, concurrency=engine), workers=2)
launcher.wait()
"""


def put(forkd: Installed, pair: Pair) -> dict[str, str]:
    """Place a certificate and its key, which its owner alone can read; return the `tls` that names them."""
    for name, path in zip(("shop.pem", "shop.key"), pair, strict=True):
        with open(path) as file:
            forkd.write(name, file.read())
    (forkd.folder / "shop.key").chmod(0o400)
    return {"certfile": "shop.pem", "keyfile": "shop.key"}


def user() -> str | None:
    """Return another user to run a service as; None where there cannot be one."""
    return "nobody" if os.getuid() == 0 and can_be_run_by("nobody") else None


def get(forkd: Installed, tls: ssl.SSLContext) -> str:
    connection = connect(forkd.port, tls)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def shown(forkd: Installed, tls: ssl.SSLContext) -> str:
    """Return the name in the certificate that the port shows."""
    with (
        socket.create_connection(("127.0.0.1", forkd.port), 15) as sock,
        tls.wrap_socket(sock, server_hostname="localhost") as end,
    ):
        found: Any = end.getpeercert()
        return found["subject"][0][0][1]


@pytest.mark.parametrize("preload", [True, False])
def test_a_key_that_root_alone_can_read_serves_another_user(
    public: Installed, concurrency: str, preload: bool, authority: Authority, pair: Pair
) -> None:
    tls = put(public, pair)
    facts = "import os\nassert not os.access('shop.key', os.R_OK)\n" if user() else ""
    public.write("app.py", facts + (public.folder / "app.py").read_text())
    web = public.web(tls=tls, user=user(), workers=2, concurrency=concurrency, preload=preload)
    public.configure({"web": web}, log={"level": "debug"})
    public.start()
    client = authority.client()
    assert get(public, client).startswith("one ")
    secret = (public.folder / "shop.key").read_text()[LAST_OF_KEY]
    for pid in public.left():
        with suppress(FileNotFoundError, ProcessLookupError):  # the reader of the configuration may end just now
            with open(f"/proc/{pid}/environ") as environ, open(f"/proc/{pid}/cmdline") as cmdline:
                assert secret not in environ.read() + cmdline.read()
            assert not [fd for fd in os.listdir(f"/proc/{pid}/fd") if "tls" in os.readlink(f"/proc/{pid}/fd/{fd}")]
    assert secret.encode() not in memory(public.pid)
    assert secret not in public.log.read_text() + json.dumps(public.status())


@pytest.mark.parametrize("preload", [True, False])
def test_a_session_is_resumed_by_any_worker(forkd: Installed, preload: bool, authority: Authority, pair: Pair) -> None:
    forkd.configure({"web": forkd.web(tls=put(forkd, pair), workers=3, preload=preload)})
    forkd.start()
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where a session may be used again and again
    session: ssl.SSLSession | None = None
    seen: set[bytes] = set()
    while len(seen) < 3:
        sock = socket.create_connection(("127.0.0.1", forkd.port), 15)
        with client.wrap_socket(sock, server_hostname="localhost", session=session) as end:
            assert end.session_reused == (session is not None)
            end.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while piece := end.recv(1000):
                answer = piece
            seen.add(answer.rpartition(b" ")[2])
            session = session or end.session


def test_a_reload_brings_a_new_certificate(forkd: Installed, concurrency: str, authority: Authority) -> None:
    tls = put(forkd, authority.issue("old"))
    forkd.configure({"web": forkd.web(tls=tls, workers=2, concurrency=concurrency)})
    forkd.start()
    client = authority.client()
    assert shown(forkd, client) == "old"
    with loads(forkd.port, client) as clients:
        put(forkd, authority.issue("new"))
        assert forkd.run("reload").returncode == 0
        assert shown(forkd, client) == "new"
        before = forkd.workers()

        put(forkd, authority.issue("other")._replace(keyfile=authority.issue("another").keyfile))
        refused = forkd.run("reload")
        assert refused.returncode == 1
        assert (
            f"services.web.tls.keyfile: {forkd.folder}/shop.key: does not fit the first certificate" in refused.stderr
        )
        (forkd.folder / "shop.pem").unlink()
        assert "shop.pem: cannot read: no such file or directory" in forkd.run("reload").stderr
        assert forkd.workers() == before
        assert shown(forkd, client) == "new"
        seen = [client.answers for client in clients]
        until(lambda: all(c.answers > s for c, s in zip(clients, seen, strict=True)), what="answers afterwards")
    assert [client.failures for client in clients] == [[], []]


def test_a_reload_by_signal_does_what_the_user_may(forkd: Installed, concurrency: str, authority: Authority) -> None:
    tls = put(forkd, authority.issue("before"))
    forkd.configure({"web": forkd.web(tls=tls, reload="signal", concurrency=concurrency)})
    forkd.start()
    client, pids = authority.client(), forkd.workers()
    put(forkd, authority.issue("after"))
    assert forkd.run("reload").returncode == 0
    until(lambda: shown(forkd, client) == "after", what="the new certificate")
    assert forkd.workers() == pids


@pytest.mark.skipif(user() is None, reason="no other user may be had who can run this interpreter")
def test_a_reload_by_signal_says_what_the_user_may_not(public: Installed, authority: Authority) -> None:
    tls = put(public, authority.issue("mine"))
    public.configure({"web": public.web(tls=tls, reload="signal", user=user())})
    public.start()
    put(public, authority.issue("theirs"))
    assert public.run("reload").returncode == 0
    refusal = f"tls.keyfile: {public.folder}/shop.key: cannot read: permission denied; the certificate stays as it was"
    until(lambda: refusal in public.log.read_text(), what="the reason")
    assert shown(public, authority.client()) == "mine"


def test_healthchecks_need_no_certificate(forkd: Installed, authority: Authority, pair: Pair) -> None:
    tls = {**put(forkd, pair), "ca": authority.certfile, "client_auth": "required"}
    health = {"http": "/", "interval": "100ms"}
    forkd.configure({"web": forkd.web(tls=tls, healthcheck=health)})
    forkd.start()
    told = until(lambda: forkd.service()["workers"][0]["health"], 20.0, "an answer")
    assert told == {"ok": True, "failures": 0, "text": ""}
    assert get(forkd, authority.client(authority.issue("lovelace"))).startswith("one ")


def test_check_says_what_is_wrong(forkd: Installed, authority: Authority, pair: Pair) -> None:
    tls = put(forkd, pair)
    forkd.configure({"web": forkd.web(tls=tls)})
    assert forkd.run("check", "-c", str(forkd.config)).returncode == 0
    put(forkd, pair._replace(keyfile=authority.issue("foreign").keyfile))
    done = forkd.run("check", "-c", str(forkd.config))
    assert done.returncode == 78
    assert ": services.web.tls.keyfile: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_debugger_sees_it_too(public: Installed, concurrency: str, authority: Authority, pair: Pair) -> None:
    tls = put(public, pair)
    public.configure({"web": public.web(tls=tls, user=user(), concurrency=concurrency)})
    with public.log.open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "run", "-c", public.config, "web"], stderr=log, env=public.environment(), cwd=public.folder
        )
    try:
        until(lambda: "ready" in public.log.read_text(), 30.0, "the service")
        assert get(public, authority.client()).startswith("one ")
    finally:
        process.terminate()
    assert process.wait(30) == 0


def test_a_script_reads_them_anew_on_hup(forkd: Installed, concurrency: str, authority: Authority) -> None:
    tls = put(forkd, authority.issue("early"))
    forkd.write("script.py", SCRIPT)
    with forkd.log.open("wb") as log:
        command = [sys.executable, "script.py", concurrency, str(forkd.port), *tls.values()]
        forkd.process = subprocess.Popen(command, stderr=log, env=forkd.environment(), cwd=forkd.folder)

    def name() -> str:
        try:
            return shown(forkd, authority.client())
        except ConnectionRefusedError:
            return ""

    until(lambda: name() == "early", 30.0, "the first certificate")
    until(lambda: catches(forkd.pid, signal.SIGHUP), what="the script in wait()")
    put(forkd, authority.issue("late"))
    forkd.signal(signal.SIGHUP)
    until(lambda: {name() for _ in range(8)} == {"late"}, 30.0, "the second one, of both workers")
