"""The launcher's own lines: their look, and that nothing can block them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from forkd.log import LIMIT, LINES, Log, is_journal, printable, stamp


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for number in (read, write):
        os.close(number)


def written(read):
    os.set_blocking(read, False)
    try:
        return os.read(read, 1 << 20).decode()
    except BlockingIOError:
        return ""


def test_a_line_has_time_level_and_origin(pipe):
    read, write = pipe
    Log(fd=write).info("ready", "shop/0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  shop/0: ready\n", written(read))


def test_levels(pipe):
    read, write = pipe
    log = Log("warning", fd=write)
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert [line.split()[1] for line in written(read).splitlines()] == ["WARNING", "ERROR"]
    log.set("debug", "text")
    log.debug("x")
    assert "DEBUG launcher: x" in written(read)


def test_each_line_of_a_traceback_is_a_line_and_no_terminal_is_steered(pipe):
    read, write = pipe
    Log(fd=write).error("Traceback\n  File \x1b[2J\x07\n\nKeyError: 'ü'")
    assert [line.partition(": ")[2] for line in written(read).splitlines()] == [
        "Traceback",
        r"  File \x1b[2J\x07",
        "",
        "KeyError: 'ü'",
    ]


def test_each_of_many_stacks_has_as_much_room_as_one_message(pipe):
    read, write = pipe
    stacks = [f"Thread {number}\n  innermost\n" + "  frame\n" * 50 for number in range(20)]
    Log(fd=write).info("\n".join(["pid 7 exited", *stacks]))
    lines = [line.partition(": ")[2] for line in written(read).splitlines()]
    assert [line for line in lines if line.startswith("Thread")] == [f"Thread {number}" for number in range(20)]
    assert lines.count("  innermost") == 20
    assert len([line for line in lines if line.endswith("more lines")]) == 20


def test_a_line_is_never_longer_than_what_a_pipe_takes_at_once(pipe):
    read, write = pipe
    Log(fd=write).info("x" * 10_000)
    line = written(read)
    assert len(line) == LIMIT
    assert line.endswith("x\n")


@pytest.mark.parametrize("text", ["x", "x" * 150, "x" * 100_000])
def test_a_message_of_many_lines_is_one_write_with_its_beginning_and_its_end(monkeypatch, pipe, text):
    read, write = pipe
    log = Log(fd=write)
    put, writes = os.write, []

    def counted(fd, raw):
        writes.append(len(raw))
        return put(fd, raw)

    monkeypatch.setattr(os, "write", counted)
    log.error("\n".join(["first", *[text] * 5000, "KeyError: 'last'"]))
    raw = written(read)
    assert writes == [len(raw.encode())]
    assert writes[0] <= LIMIT
    lines = [line.partition("launcher: ")[2] for line in raw.splitlines()]
    assert (lines[0], lines[-1]) == ("first", "KeyError: 'last'")
    assert len(lines) <= LINES
    (gap,) = [line for line in lines if "more lines" in line]
    assert gap == f"… {5002 - len(lines) + 1} more lines"


def test_a_message_that_fits_is_whole(pipe):
    read, write = pipe
    Log(fd=write).error("\n".join(["x"] * LINES))
    assert written(read).count(" ERROR launcher: x\n") == LINES


def test_a_reader_that_does_not_read_loses_lines_and_is_told_how_many(pipe):
    read, write = pipe
    log = Log(fd=write)
    for _ in range(100):
        log.info("x" * 4000)
    lost = log.dropped
    assert lost > 0
    before = written(read).count("\n")
    assert before + lost == 100
    log.info("again")
    after = written(read).splitlines()
    assert f"{lost} lines lost" in after[0]
    assert after[1].endswith("again")
    assert log.dropped == 0


def test_a_reader_that_went_away_and_no_stderr_at_all_harm_nobody():
    read, write = os.pipe()
    log = Log(fd=write)
    os.close(read)
    log.error("x")
    os.close(write)
    log.error("x")
    assert log.dropped == 2


def test_stamp_is_utc_to_the_millisecond():
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
    assert stamp(1767225600.1239) == "2026-01-01T00:00:00.123Z"


def test_printable_leaves_what_can_be_printed():
    assert printable("grüße – 你好") == "grüße – 你好"
    assert printable("a\tb\x00\u202e") == r"a\tb\x00\u202e"


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-", ">&-", "<&- 2>&-"])
def test_nothing_takes_the_place_of_a_closed_standard_descriptor(tmp_path, closed):
    """And a program that is run keeps what stands there."""
    code = f"""
import json
import os
from forkd.log import keep_standard_descriptors
keep_standard_descriptors()
number = os.open({str(tmp_path / "said")!r}, os.O_WRONLY | os.O_CREAT)
os.write(number, f"{{number > 2}} {{[os.get_inheritable(n) for n in (0, 1, 2)]}}".encode())
"""
    subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=True)
    assert (tmp_path / "said").read_text() == "True [True, True, True]"


def test_as_json_a_message_is_one_object_whatever_is_in_it(pipe):
    read, write = pipe
    Log("info", "json", write).error("Traceback\n  File \"\x1b[2J\"\n\nKeyError: 'ü\udc80'\\n")
    raw = written(read)
    assert raw.isascii()
    assert raw.count("\n") == 1
    body = json.loads(raw)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("at"))
    text = "Traceback\n  File \"\x1b[2J\"\n\nKeyError: 'ü\udc80'\\n"
    assert body == {"level": "error", "origin": "launcher", "text": text}


def test_fields_are_for_json_alone(pipe):
    read, write = pipe
    log = Log(fd=write)
    log.write("info", "ready", "shop/0", kind="ready", pid=12)
    log.set("info", "json")
    log.write("info", "ready", "shop/0", kind="ready", pid=12)
    text, raw = written(read).splitlines()
    assert text.endswith("INFO  shop/0: ready")
    body = json.loads(raw)
    assert (body["kind"], body["pid"], body["text"]) == ("ready", 12, "ready")


@pytest.mark.parametrize("line", ["x", "x" * 150, "ü" * 150, "\x00" * 5000, "🦆" * 5000, '"\\' * 500])
@pytest.mark.parametrize("count", [0, 20, 5000])
def test_an_object_is_never_longer_than_what_a_pipe_takes_at_once(pipe, line, count):
    read, write = pipe
    Log("info", "json", write).error("\n".join(["first", *[line] * count, "KeyError: 'last'"]))
    raw = written(read)
    assert len(raw) <= LIMIT
    lines = json.loads(raw)["text"].split("\n")
    assert (lines[0], lines[-1]) == ("first", "KeyError: 'last'")
    assert all(one == line[: len(one)] for one in lines[1:-1] if "more lines" not in one)


def test_one_long_line_is_cut_in_json_too(pipe):
    read, write = pipe
    Log("info", "json", write).info('"' * 10_000)
    raw = written(read)
    assert LIMIT - 10 < len(raw) <= LIMIT
    assert set(json.loads(raw)["text"]) == {'"'}


@pytest.mark.parametrize("format", ["text", "json"])
def test_for_the_journal_each_line_has_its_priority(pipe, monkeypatch, format):
    read, write = pipe
    found = os.fstat(write)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    log = Log("debug", format, write)
    for say in (log.debug, log.info, log.warning, log.error):
        say("one\ntwo", "shop/0")
    lines = written(read).splitlines()
    if format == "text":
        assert lines == [f"<{number}>shop/0: {text}" for number in (7, 6, 4, 3) for text in ("one", "two")]
    else:
        assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
        assert [json.loads(line[3:])["text"] for line in lines] == ["one\ntwo"] * 4


def test_a_journal_that_somebody_else_writes_to_is_not_ours(pipe, monkeypatch):
    found = os.fstat(pipe[0])
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    assert not is_journal(pipe[1])
    assert not is_journal(-1)
