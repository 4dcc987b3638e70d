"""The example services do what they show, alone and under the installed command."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import io
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.functional.installed import COMMAND, Installed, living_in
from tests.ports import Ports
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = Path(__file__).parent.parent.parent / "conf"
URL = "https://www.python.org/"


@pytest.fixture
def linkbox(monkeypatch, tmp_path):
    """The package of the examples, with a database of its own."""
    monkeypatch.setenv("LINKBOX_DB", str(tmp_path / "links.sqlite"))
    monkeypatch.syspath_prepend(str(CONF / "examples"))
    for name in ("clicks", "housekeeper", "web"):
        importlib.import_module(f"linkbox.{name}")
    yield sys.modules["linkbox"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "linkbox"]:
        del sys.modules[name]


class Visitor:
    """Asks the application without a server between them, checked by wsgiref (PEP 3333)."""

    def __init__(self, app) -> None:
        self.app: Any = validator(app)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[str, dict[str, str], str]:
        body = urlencode(form or {}).encode()
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "wsgi.input": io.BytesIO(body),
        }
        environ |= {"CONTENT_LENGTH": str(len(body))} if form else {}
        setup_testing_defaults(environ)
        seen = []

        def start_response(status, headers, exc_info=None):
            seen.append((status, dict(headers)))
            return lambda data: None

        result = self.app(environ, start_response)
        text = b"".join(result).decode()
        result.close()
        return *seen[0], text


@pytest.fixture
def visitor(linkbox):
    return Visitor(linkbox.web.create_app())


def test_a_link_is_shortened_and_followed(visitor):
    status, headers, _ = visitor.ask("POST", "/links", {"url": URL})
    assert status == "201 Created"
    # Nobody serves the clicks here: the visitor must not notice.
    status, headers, _ = visitor.ask("GET", headers["Location"])
    assert (status, headers["Location"]) == ("302 Found", URL)


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "https://a/\r\nSet-Cookie: a=b", "ftp://a/"])
def test_what_is_no_link_is_refused(visitor, url):
    assert visitor.ask("POST", "/links", {"url": url})[0] == "400 Bad Request"


def test_the_page_escapes_what_it_shows(visitor):
    visitor.ask("POST", "/links", {"url": 'https://a/"><script>'})
    page = visitor.ask("GET", "/")[2]
    assert "&gt;&lt;script&gt;" in page
    assert "<script>" not in page


def test_an_unknown_code_and_method(visitor):
    assert visitor.ask("GET", "/nothing")[0] == "404 Not Found"
    status, headers, _ = visitor.ask("DELETE", "/nothing")
    assert (status, headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    assert visitor.ask("HEAD", "/")[2] == ""


def test_clicks_are_counted_once_they_are_written(linkbox):
    server = linkbox.clicks.Clicks()
    code = linkbox.store.add(URL)
    server.record(code)
    server.record(code)
    server.flush()
    server.flush()
    assert server.top(1) == [{"code": code, "url": URL, "clicks": 2}]


def test_clicks_are_kept_while_they_cannot_be_written(linkbox, monkeypatch, tmp_path):
    server = linkbox.clicks.Clicks()
    code = linkbox.store.add(URL)
    server.record(code)
    with monkeypatch.context() as broken:
        broken.setenv("LINKBOX_DB", str(tmp_path / "missing" / "links.sqlite"))
        with pytest.raises(linkbox.clicks.sqlite3.OperationalError):
            server.flush()
    server.flush()
    assert server.top()[0]["clicks"] == 1


def test_a_limit_out_of_range_is_refused(linkbox):
    with pytest.raises(ValueError, match="1 to 100"):
        linkbox.clicks.Clicks().top(0)


def test_the_housekeeper_forgets_what_is_over(linkbox, monkeypatch):
    monkeypatch.setattr(linkbox.store, "LIFETIME", -1.0)
    over = linkbox.store.add(URL)
    monkeypatch.setattr(linkbox.store, "LIFETIME", 60.0)
    kept = linkbox.store.add(URL)
    linkbox.housekeeper.Housekeeper(keep_days=30).forget()
    assert linkbox.store.find(over) is None
    assert linkbox.store.find(kept) == URL
    assert linkbox.store.forget(30) == 0


@pytest.fixture
def example(monkeypatch, short_tmp) -> Iterator[Installed]:
    """conf/services.yaml under the installed command, as `make run` starts it."""
    installed = Installed(short_tmp)
    installed.config = CONF / "services.yaml"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(installed.runtime_dir))
    monkeypatch.setenv("LINKBOX_PORT", str(installed.port))
    monkeypatch.setenv("LINKBOX_DB", str(short_tmp / "links.sqlite"))
    yield installed
    installed.close()


def test_the_three_services_work_together(example):
    example.start()
    assert {name: len(example.workers(name)) for name in ("links", "clicks", "housekeeper")} == {
        "links": 2,
        "clicks": 2,
        "housekeeper": 1,
    }
    own = f"http://127.0.0.1:{example.port}"
    with urllib.request.urlopen(f"{own}/links", urlencode({"url": f"{own}/"}).encode()) as answer:
        short = answer.read().decode().strip()
    with urllib.request.urlopen(short) as answer:  # followed back to the page
        assert f">{short.rpartition('/')[2]}<" in answer.read().decode()
    counted = until(lambda: re.search(r"clicks.*1", example.run("call", "clicks.top", "limit=1").stdout, re.DOTALL))
    assert counted
    example.process.terminate()
    assert example.wait() == 0


@pytest.fixture
def chat(monkeypatch, short_tmp) -> Iterator[Installed]:
    """conf/examples/chat under the installed command."""
    installed = Installed(short_tmp)
    installed.config = CONF / "examples" / "chat" / "services.yaml"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(installed.runtime_dir))
    monkeypatch.setenv("CHAT_PORT", str(installed.port))
    yield installed
    installed.close()


def enter(chat) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{chat.port}/talk", proxy=None)


def test_everybody_hears_what_is_said_in_the_chat(chat):
    chat.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{chat.port}/") as answer:
        assert b"new WebSocket" in answer.read()
    with enter(chat) as ada, enter(chat) as bob:
        for speaker, text in ((ada, "hello"), (bob, "hello, ada"), (ada, "<b>bold</b>")):
            speaker.send(text)
            assert [member.recv(10) for member in (ada, bob)] == [text] * 2
        with enter(chat) as late:
            assert [late.recv(10) for _ in range(3)] == ["hello", "hello, ada", "<b>bold</b>"]


def test_those_who_chat_go_over_to_the_new_worker_at_a_reload(chat):
    chat.start()
    (old,) = chat.workers("chat")
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(enter(chat)) for _ in range(10)]
        assert chat.run("reload").returncode == 0
        for member in members:
            with pytest.raises(ConnectionClosed):
                member.recv(10)
        again = [stack.enter_context(enter(chat)) for _ in range(10)]
        again[0].send("here we are again")
        assert [member.recv(10) for member in again] == ["here we are again"] * 10
    (new,) = chat.workers("chat")
    assert new != old
    log = chat.log.read_text()
    assert "Traceback" not in log
    assert "still busy" not in log


@pytest.fixture
def shop_and_billing(monkeypatch, short_tmp, broker) -> Iterator[tuple[Installed, Installed]]:
    """conf/examples/billing, as on two hosts: each with a launcher of its own."""
    monkeypatch.setenv("BROKER", broker.url(broker.vhost()))
    monkeypatch.setenv("BILLING_LEDGER", str(short_tmp / "ledger"))
    with contextlib.ExitStack() as stack:
        both = []
        for name in ("shop", "billing"):
            (short_tmp / name).mkdir()
            installed = Installed(short_tmp / name)
            installed.config = CONF / "examples" / "billing" / f"{name}.yaml"
            stack.callback(installed.close)
            monkeypatch.setenv("RUNTIME_DIRECTORY", str(installed.runtime_dir))
            monkeypatch.setenv("SHOP_PORT", str(installed.port))
            both.append(installed.start())
        yield both[0], both[1]


def asked(shop: Installed, path: str) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_the_shop_charges_customers_on_another_host(shop_and_billing):
    shop, billing = shop_and_billing
    status, charged = asked(shop, "/charge?customer=ada&cents=1200")
    assert (status, charged["charged"]) == (200, 1200)
    assert asked(shop, "/charge?customer=ada&cents=34")[0] == 200
    assert asked(shop, "/owed?customer=ada") == (200, {"owed": 1234})
    assert asked(shop, "/charge?customer=1&cents=1") == (404, {"error": "no such customer"})
    assert asked(shop, "/charge?customer=ada") == (400, {"error": "give customer, and cents to charge"})
    assert billing.run("stop", "billing").returncode == 0
    assert asked(shop, "/charge?customer=ada&cents=1")[0] == 502  # nobody has answered in time


@pytest.fixture
def script(short_tmp) -> Iterator[subprocess.Popen[str]]:
    """conf/examples/script.py, whose services are ready; the line that says where is not yet read."""
    ports = Ports()
    environment = {
        **{
            name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"
        },  # eventlet keeps quiet by it
        "FORKD_RUNTIME_DIR": str(short_tmp / "run"),
        "LINKBOX_PORT": str(ports.take()),
        "LINKBOX_DB": str(short_tmp / "links.sqlite"),
    }
    with contextlib.closing(ports), (short_tmp / "log").open("w") as log:
        script = subprocess.Popen(
            [sys.executable, CONF / "examples" / "script.py"], cwd=short_tmp, env=environment,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        with script:
            yield script
            script.terminate()
    until(lambda: not living_in(short_tmp), what="nothing left")


def test_the_script_runs_them_without_a_configuration(script, short_tmp):
    own = script.stdout.readline().strip()
    assert own, (short_tmp / "log").read_text()
    with urllib.request.urlopen(f"{own}/links", urlencode({"url": f"{own}/"}).encode()) as answer:
        short = answer.read().decode().strip()
    with urllib.request.urlopen(short) as answer:  # followed back to the page
        assert f">{short.rpartition('/')[2]}<" in answer.read().decode()
    call = [COMMAND, "call", "--runtime-dir", short_tmp / "run", "clicks.top", "limit=1"]
    counted = lambda: subprocess.run(call, capture_output=True, text=True, check=True).stdout
    assert until(lambda: re.search(r"clicks.*1", counted(), re.DOTALL))
    script.terminate()
    assert script.wait(30) == 0
    assert re.findall(r"^(?!\d{4}-\d\d-\d\dT).*", (short_tmp / "log").read_text(), re.MULTILINE) == [""]


def test_the_script_says_why_it_cannot_start(script, short_tmp):
    own = script.stdout.readline().strip()
    again = subprocess.run(
        [sys.executable, CONF / "examples" / "script.py"], cwd=short_tmp, capture_output=True, text=True, check=False,
        env={**os.environ, "FORKD_RUNTIME_DIR": str(short_tmp / "other"), "LINKBOX_PORT": own.rpartition(":")[2]},
    )  # fmt: skip
    assert again.returncode == 1
    assert "service links: could not be started: cannot listen on 127.0.0.1" in again.stderr
