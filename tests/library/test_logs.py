"""What `logging` writes in a service's process: each case in a process of its own, since it has one root logger."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from typing import Any

import pytest

CODE = """
import logging, os
from forkd import logs
found = os.fstat(2)
if os.environ.get("JOURNAL_STREAM") == "here":
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
BEFORE
logs.to_stderr("shop zygote")
logs.to_stderr("shop/0")
log = logging.getLogger("shop.web")
log.debug("fine %d", 1)
log.info("well\\nand good")
try:
    {}["DSN"]
except KeyError:
    log.critical("lost", exc_info=True, stack_info=True)
"""


def said(environ: dict[str, str] | None = None, before: str = "", after: str = "") -> list[str]:
    """Return the lines of stderr."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("BEFORE", before) + after], env={**os.environ, **(environ or {})},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stderr.splitlines()


def test_by_default_lines_look_like_the_launchers():
    first, second, third, *rest = said()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  shop/0: well", first)
    assert second == "and good"
    assert third.endswith("Z CRITICAL shop/0: lost")
    assert "KeyError: 'DSN'" in rest
    assert "Stack (most recent call last):" in rest


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("warning", 1), ("nonsense", 2)])
def test_the_level_is_the_configurations(level, count):
    lines = said({"FORKD_LOG_LEVEL": level})
    assert sum(" shop/0: " in line for line in lines) == count


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_as_json_a_record_is_one_object():
    first, second = objects(said({"FORKD_LOG_FORMAT": "json"}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {"level": "info", "origin": "shop/0", "logger": "shop.web", "text": "well\nand good"}
    assert second["level"] == "critical"
    assert "\nKeyError: 'DSN'\n" in second["text"]


def test_as_json_a_record_tears_no_other_on_a_pipe_that_is_full():
    after = "log.error('first' + 3000 * '\\nlong' + '\\nlast'); log.getChild(9999 * 'n').error(9999 * '\"')\n"
    lines = said({"FORKD_LOG_FORMAT": "json", "FORKD_LOG_LEVEL": "error"}, after=after)
    assert max(map(len, lines)) < select.PIPE_BUF
    _, first, second = objects(lines)
    assert first["text"].startswith("first\nlong\n")
    assert first["text"].endswith("\nlong\nlast")
    assert second["logger"].startswith("shop.web.nnn")
    assert set(second["text"]) == {'"'}


def test_for_the_journal_each_line_has_its_priority_and_no_time_of_day():
    lines = said({"JOURNAL_STREAM": "here"})
    assert lines[:3] == ["<6>shop/0: well", "<6>shop/0: and good", "<2>shop/0: lost"]
    assert all(line.startswith("<2>shop/0: ") for line in lines[2:])
    marked = said({"JOURNAL_STREAM": "here", "FORKD_LOG_FORMAT": "json"})
    assert [line[:3] for line in marked] == ["<6>", "<2>"]
    assert objects([line[3:] for line in marked])[0]["text"] == "well\nand good"


def test_a_service_that_has_set_logging_up_keeps_its_own():
    before = "logging.basicConfig(format='%(name)s %(message)s', level='DEBUG')"
    assert said({"FORKD_LOG_FORMAT": "json"}, before)[0] == "shop.web fine 1"
