"""The log of the launcher and of its workers, as `log` in the configuration wants it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from tests.functional.installed import Installed

TALKER = """
import logging, forkd

class Talker(forkd.Server):
    def start(self):
        super().start()
        logging.info("started\\nwell")
        logging.debug("in detail")
"""


def talker() -> dict[str, Any]:
    return {"talker": {"server": "talker:Talker", "concurrency": "threads"}}


def test_as_json_every_line_is_an_object(forkd: Installed) -> None:
    forkd.write("talker.py", TALKER)
    forkd.configure(talker(), log={"format": "json", "level": "debug"})
    forkd.start()
    (pid,) = forkd.workers("talker")
    forkd.signal(signal.SIGTERM)
    assert forkd.wait() == 0
    lines = [json.loads(line) for line in forkd.log.read_text().splitlines()]
    own = [(line["level"], line["text"]) for line in lines if line.get("logger") == "root"]
    assert own == [("info", "started\nwell"), ("debug", "in detail")]
    (ready,) = [line for line in lines if line.get("kind") == "ready"]
    assert {key: ready[key] for key in ("level", "origin", "text", "service", "slot", "pid", "generation")} == {
        "level": "info", "origin": "talker/0", "text": f"ready, pid {pid}, generation 1",
        "service": "talker", "slot": 0, "pid": pid, "generation": 1,
    }  # fmt: skip
    assert (lines[0]["origin"], lines[-1]["text"]) == ("launcher", "stopped")
    assert not any({"reason", "stacks"} & line.keys() for line in lines)  # the text has them


def test_a_reload_changes_how_the_launcher_and_new_workers_log(forkd: Installed) -> None:
    forkd.write("talker.py", TALKER)
    forkd.configure(talker())
    forkd.start()
    forkd.configure(talker(), log={"format": "json"})
    before = forkd.log.stat().st_size
    forkd.signal(signal.SIGHUP)
    forkd.until_running(generation=2)
    until(lambda: "reload done" in forkd.log.read_text(), what="the end of the reload")
    after = forkd.log.read_bytes()[before:].decode().splitlines()
    objects = [json.loads(line) for line in after if line.startswith("{")]
    assert [line["text"] for line in objects if line.get("logger") == "root"] == ["started\nwell"]
    assert [line["kind"] for line in objects if line["origin"] == "launcher"] == ["reload_ended"]


def test_a_service_may_log_otherwise(forkd: Installed) -> None:
    forkd.write("talker.py", TALKER)
    services = talker()
    services["talker"]["environment"] = {"FORKD_LOG_LEVEL": "debug"}
    forkd.configure(services, log={"level": "warning"})
    forkd.start()
    assert " DEBUG talker/0: in detail\n" in forkd.log.read_text()
