"""Real proxies in front of an installed forkd, as docs/wsgi.md configures them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.installed import Installed
from tests.waiting import until
from tests.wsgi.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "wsgi.md").read_text("utf-8")
NGINX, HAPROXY = pathlib.Path("/usr/sbin/nginx"), pathlib.Path("/usr/sbin/haproxy")
CLIENT = "127.0.0.5"  # who is not in `forwarded_allow_ips`
ENVIRON = """
import json

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]
"""
# In one process, which writes nothing but below its folder.
AROUND_NGINX = """
daemon off;
master_process off;
pid pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
"""


def documented(language: str, changes: dict[str, str]) -> str:
    """Return the configuration of a proxy in the documentation, with other addresses."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    text = found[1]
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(folder: pathlib.Path, port: int, *command: str | pathlib.Path) -> Iterator[None]:
    """Have a proxy run that listens on a port."""
    if not pathlib.Path(command[0]).exists():
        pytest.fail(f"{command[0]} is missing: apt-get install haproxy nginx, or make system-packages")
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        until(listens, what="the proxy to listen")
        yield
    finally:
        process.terminate()
        process.wait(10)


def ask(client: Client) -> dict[str, Any]:
    """Send a request with what a client may forge, and return its environ."""
    forged = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X_Forwarded_For: 6.6.6.6")
    return json.loads(client.get("/environ", *forged).body)


# Which address has nothing to do with the engine.
@pytest.mark.parametrize(("kind", "concurrency"), [("unix", "eventlet"), ("port", "threads")])
def test_nginx(forkd: Installed, concurrency: str, short_tmp: pathlib.Path, kind: str) -> None:
    address = {"unix": f"unix:{short_tmp}/s", "port": f"127.0.0.1:{forkd.port}"}[kind]
    forkd.write("app.py", ENVIRON)
    forkd.configure({"web": forkd.web(bind=[address], concurrency=concurrency)})
    forkd.start()
    [worker] = forkd.workers()
    idle = len(os.listdir(f"/proc/{worker}/fd"))
    port = forkd.ports.take()
    changes = {"unix:/run/shop.sock": address, "listen 80;": f"listen 127.0.0.1:{port};"}
    folder = short_tmp / "nginx"
    folder.mkdir()
    (folder / "conf").write_text(AROUND_NGINX + documented("nginx", changes) + "}\n")
    with running(folder, port, NGINX, "-p", folder, "-c", "conf", "-e", "stderr"):
        for _ in range(5):
            with Client(f"127.0.0.1:{port}", CLIENT) as client:
                for _ in range(2):
                    found = ask(client)
                    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (CLIENT, "")
                    assert found["HTTP_X_FORWARDED_FOR"] == f"6.6.6.6, {CLIENT}"
                    assert found["wsgi.url_scheme"] == "http"
                    assert (found["HTTP_HOST"], found["SERVER_PROTOCOL"]) == ("test", "HTTP/1.1")
        assert len(os.listdir(f"/proc/{worker}/fd")) == idle + 1  # nginx has kept its one connection


@pytest.mark.parametrize(("version", "concurrency"), [("send-proxy", "threads"), ("send-proxy-v2", "eventlet")])
def test_haproxy(forkd: Installed, concurrency: str, tmp_path: pathlib.Path, version: str) -> None:
    forkd.write("app.py", ENVIRON)
    forkd.configure({"web": forkd.web(concurrency=concurrency, proxy_protocol=True)})
    forkd.start()
    port = forkd.ports.take()
    changes = {
        ":80\n": f"127.0.0.1:{port}\n",
        "127.0.0.1:8080 send-proxy-v2 ": f"127.0.0.1:{forkd.port} {version} ",
    }
    folder = tmp_path / "haproxy"
    folder.mkdir()
    (folder / "conf").write_text(documented("haproxy", changes))
    with running(folder, port, HAPROXY, "-db", "-f", "conf"), Client(f"127.0.0.1:{port}", CLIENT) as client:
        for _ in range(2):
            found = ask(client)
            assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (CLIENT, str(client.sock.getsockname()[1]))
            assert (found["PROXY_PROTOCOL"], found["PROXY_ADDR"], found["PROXY_PORT"]) == (
                "TCP4",
                "127.0.0.1",
                str(port),
            )
            assert found["SERVER_PORT"] == str(forkd.port)
            assert found["wsgi.url_scheme"] == "http"  # the client's own word
            assert found["HTTP_X_FORWARDED_FOR"] == "6.6.6.6"
