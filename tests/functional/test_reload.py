"""HUP and `forkd reload` bring fresh code and configuration while nobody notices."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

from tests.functional.installed import APP, GATED, Installed, loads
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_reload_brings_fresh_code(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    forkd.start()
    old = forkd.workers()
    assert forkd.get().startswith("one")
    forkd.write("app.py", APP.replace('"one"', '"two"'))
    done = forkd.run("reload")
    assert done.returncode == 0, done.stderr
    assert forkd.get().startswith("two")
    assert not set(old) & set(forkd.workers())
    status = forkd.status()
    assert status["forkd"]["last_reload"]["ok"] is True
    assert status["forkd"]["generation"] == status["services"][0]["generation"] == 2
    until(lambda: len(forkd.titles()) == 4, what="just the processes there should be")


def test_ten_hups_under_load_lose_no_request(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    forkd.start()
    with loads(forkd.port) as clients:
        for number in range(2, 12):
            forkd.signal(signal.SIGHUP)
            forkd.until_running(generation=number)
        seen = [client.answers for client in clients]
        until(lambda: all(c.answers > s for c, s in zip(clients, seen, strict=True)), what="answers afterwards")
    for client in clients:
        assert client.failures == []
        assert len(client.bodies) >= 10  # workers: a client that asks without pause is served by every generation
    kept, renewed = clients
    assert kept.connections < kept.answers // 4
    assert renewed.connections == renewed.answers
    until(lambda: len(forkd.titles()) == 4, what="just the processes there should be")


def test_hups_in_a_storm_end_on_the_newest_code(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    forkd.start()
    with loads(forkd.port) as clients:
        for number in range(30):
            forkd.write("app.py", APP.replace('"one"', f'"v{number}"'))
            forkd.signal(signal.SIGHUP)
        until(lambda: forkd.get().startswith("v29"), 30.0, "the newest code")
        forkd.until_running()
    assert [client.failures for client in clients] == [[], []]
    until(lambda: len(forkd.titles()) == 4, what="just the processes there should be")


def test_services_are_changed_added_and_removed(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=3), "ticker": {"server": "ticker:Ticker", "args": {"path": "ticks"}}})
    forkd.start()
    forkd.configure({"web": forkd.web(workers=1), "adder": {"server": "adder:Adder", "topic": "adder"}})
    assert forkd.run("reload").returncode == 0
    services = forkd.status()["services"]
    assert [(s["name"], s["ready"]) for s in services] == [("web", 1), ("adder", 1)]
    assert forkd.run("call", "adder.add", "a=1", "b=1").stdout.strip() == "2"
    until(lambda: len(forkd.titles()) == 5, what="just the processes there should be")


def test_a_changed_port_moves_without_a_gap(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web()})
    forkd.start()
    old, forkd.port = forkd.port, forkd.ports.take()
    forkd.configure({"web": forkd.web()})
    assert forkd.run("reload").returncode == 0
    assert forkd.get().startswith("one")
    forkd.port = old
    try:
        forkd.get()
    except ConnectionRefusedError:
        return
    raise AssertionError("the old port still answers")


def test_a_service_that_is_renamed_keeps_its_port_open(forkd: Installed, concurrency: str) -> None:
    forkd.configure({"web": forkd.web(workers=2, concurrency=concurrency)})
    forkd.start()
    with loads(forkd.port) as clients:
        forkd.configure({"site": forkd.web(workers=2, concurrency=concurrency)})
        done = forkd.run("reload")
        assert done.returncode == 0, done.stderr
        seen = [client.answers for client in clients]
        until(lambda: all(c.answers > s for c, s in zip(clients, seen, strict=True)), what="answers afterwards")
    assert [client.failures for client in clients] == [[], []]
    assert [service["name"] for service in forkd.status()["services"]] == ["site"]


def test_a_removed_socket_file_comes_back(forkd: Installed, short_tmp: Path) -> None:
    path = short_tmp / "web.sock"
    forkd.configure({"web": forkd.web(bind=[f"unix:{path}"]), "adder": {"server": "adder:Adder", "topic": "adder"}})
    forkd.start()
    path.unlink()
    (forkd.runtime_dir / "rpc" / "adder" / "0.sock").unlink()
    assert forkd.run("reload").returncode == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert forkd.run("call", "adder.add", "a=1", "b=1").stdout.strip() == "2"


def test_reload_of_one_service_leaves_the_others(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(), "adder": {"server": "adder:Adder", "topic": "adder"}})
    forkd.start()
    web, adder = forkd.workers(), forkd.workers("adder")
    assert forkd.run("reload", "adder").returncode == 0
    assert forkd.workers() == web
    assert forkd.workers("adder") != adder


def test_signal_mode_resets_the_workers_in_place(forkd: Installed) -> None:
    forkd.write(
        "resetting.py",
        """
import forkd

class Resetting(forkd.Server):
    def reset(self):
        open("reset", "a").write("x")
""",
    )
    forkd.configure({"resetting": {"server": "resetting:Resetting", "reload": "signal"}})
    forkd.start()
    before = forkd.workers("resetting")
    assert forkd.run("reload").returncode == 0
    until((forkd.folder / "reset").exists, what="reset() called")
    assert forkd.workers("resetting") == before


def test_restart_replaces_the_workers_without_losing_a_request(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=2)})
    forkd.start()
    before = forkd.service()
    with loads(forkd.port) as clients:
        assert forkd.run("restart", "web").returncode == 0
    assert [client.failures for client in clients] == [[], []]
    after = forkd.service()
    assert after["zygote_pid"] == before["zygote_pid"]
    assert not {w["pid"] for w in before["workers"]} & {w["pid"] for w in after["workers"]}


def test_a_zygote_killed_during_a_reload(forkd: Installed) -> None:
    forkd.configure({"web": forkd.web(workers=3)})
    zygote = forkd.start().service()["zygote_pid"]
    forkd.write("app.py", GATED + APP)
    forkd.signal(signal.SIGHUP)
    until((forkd.folder / "importing").exists, what="the new code being imported")
    os.kill(zygote, signal.SIGKILL)
    (forkd.folder / "go").touch()
    forkd.until_running(generation=2)
    until(lambda: len(forkd.titles()) == 5, what="just the processes there should be")
