"""`forkd call` in all its forms, as scripts use it: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.functional.installed import Installed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import datetime as dt
import os
from decimal import Decimal
from uuid import UUID
from msgpack import ExtType
from forkd import rpc

class Shelf(rpc.Server):
    version = "1.2"

    def init(self, service):
        self.slot = service.worker.slot
        self.kept = []
        super().init(service)

    def where(self):
        return self.slot

    def keep(self, value):
        self.kept.append(value)

    def all_kept(self):
        return self.kept

    def echo(self, value):
        return value

    def half(self):
        if self.slot:
            raise KeyError("slot")
        return "well"

    def told(self, context):
        return {key: context[key] for key in sorted(context) if key != "request_id"}

    def values(self):
        return {
            "at": dt.datetime(2026, 2, 28, 12, tzinfo=dt.UTC), "on": dt.date(2026, 2, 28), "id": UUID(int=7),
            "price": Decimal("1.50"), "data": b"a\\xff", "none": None, "list": [UUID(int=8)], UUID(int=9): 1,
        }

    def price(self):
        return Decimal("1.50")

    def foreign(self):
        return ExtType(99, b"a")
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Yield a launcher with two workers of a topic."""
    installed = Installed(tmp_path_factory.mktemp("shelf"))
    installed.write("shelf.py", SERVER)
    service = {"server": "shelf:Shelf", "topic": "shelf", "concurrency": "threads", "workers": 2}
    installed.configure({"shelf": service})
    installed.start()
    yield installed
    installed.close()


def identities(shelf: Installed) -> list[str]:
    """Return the workers' identities in the order of their slots."""
    return sorted(json.loads(shelf.run("call", "shelf.where", "--fanout", "--json").stdout))


def test_a_cast_prints_nothing_and_runs(shelf: Installed) -> None:
    done = shelf.run("call", "shelf.keep", "value=[1, x]", "--cast", "--worker", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: shelf.run("call", "shelf.all_kept", "--worker", "0").stdout == "- - 1\n  - x\n", what="it is kept")


def test_a_cast_that_is_not_accepted_is_one_line_and_exit_1(shelf: Installed) -> None:
    done = shelf.run("call", "shelf.nope", "--cast")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("forkd: shelf has no method 'nope'")
    assert done.stderr.count("\n") == 1


def test_a_fan_out_prints_the_results_by_worker(shelf: Installed) -> None:
    done = shelf.run("call", "shelf.where", "--fanout")
    assert (done.returncode, done.stderr) == (0, "")
    found = yaml.safe_load(done.stdout)
    assert list(found.values()) == [0, 1]
    assert [worker.split("/")[1:3] for worker in found] == [["shelf", "0"], ["shelf", "1"]]
    assert json.loads(shelf.run("call", "shelf.where", "--fanout", "--json").stdout) == found


def test_of_a_fan_out_failures_are_lines_on_stderr_and_results_stay(shelf: Installed) -> None:
    first, second = identities(shelf)
    done = shelf.run("call", "shelf.half", "--fanout", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {first: "well"}
    assert done.stderr == f"forkd: {second}: shelf.half raised KeyError: 'slot'\n"


def test_a_fan_out_without_a_single_result(shelf: Installed) -> None:
    done = shelf.run("call", "shelf.nope", "--fanout")
    assert (done.returncode, done.stdout) == (1, "{}\n")
    assert done.stderr.count("shelf has no method 'nope'") == 2


def test_one_worker_is_called(shelf: Installed) -> None:
    _, second = identities(shelf)
    for worker in ("1", second, second.rpartition("/")[0]):
        assert shelf.run("call", "shelf.where", "--worker", worker).stdout == "1\n"
    done = shelf.run("call", "shelf.where", "--worker", "7")
    assert done.returncode == 1
    assert "no worker 7; the slots are 0, 1" in done.stderr


def test_a_version_is_asked_for(shelf: Installed) -> None:
    assert shelf.run("call", "shelf.where", "--version", "1.1", "--worker", "0").stdout == "0\n"
    done = shelf.run("call", "shelf.where", "--version", "1.3")
    assert (done.returncode, done.stderr) == (1, "forkd: shelf serves version 1.2, not '1.3'\n")


def test_options_may_stand_before_arguments(shelf: Installed) -> None:
    assert shelf.run("call", "shelf.echo", "--json", "value=5").stdout == "5\n"


def test_a_context_travels(shelf: Installed) -> None:
    done = shelf.run("call", "shelf.told", "--context", "user=ada", "--context", "n=5", "--json")
    assert json.loads(done.stdout) == {"n": 5, "user": "ada"}


def test_values_beyond_json_and_yaml(shelf: Installed) -> None:
    zeros = "00000000-0000-0000-0000-00000000000"
    plain = {"id": f"{zeros}7", "price": "1.50", "none": None, "list": [f"{zeros}8"], f"{zeros}9": 1}
    found = json.loads(shelf.run("call", "shelf.values", "--json").stdout)
    assert found == plain | {"at": "2026-02-28T12:00:00+00:00", "on": "2026-02-28", "data": "a\\xff"}
    found = yaml.safe_load(shelf.run("call", "shelf.values").stdout)
    assert found.pop("at").isoformat() == "2026-02-28T12:00:00+00:00"
    assert found.pop("on").isoformat() == "2026-02-28"
    assert found.pop("data") == b"a\xff"
    assert found == plain
    assert shelf.run("call", "shelf.price").stdout == "1.50\n"
    assert shelf.run("call", "shelf.foreign").stdout == "ExtType(code=99, data=b'a')\n"
    assert shelf.run("call", "shelf.foreign", "--json").stdout == "[99, \"b'a'\"]\n"
    assert shelf.run("call", "shelf.echo", "value=2026-02-28").stdout == "2026-02-28\n"


def test_the_transport_is_typed_or_that_of_the_configuration(forkd: Installed, shelf: Installed) -> None:
    where = ["shelf.where", "--worker", "0"]
    assert shelf.run("call", *where, "--transport", "local").stdout == "0\n"
    assert shelf.run("call", *where, "-c", str(shelf.config)).stdout == "0\n"
    forkd.write(
        "other.yaml", "defaults: {transport: 'nonsense://${USER_OF_IT:-me}:hidden@h'}\nservices: {a: {topic: a}}\n"
    )
    for arguments in (["-c", str(forkd.folder / "other.yaml")], ["--transport", "nonsense://me:hidden@h"]):
        done = forkd.run("call", "a.b", *arguments)
        assert done.returncode == 1
        assert "transport: expected local, or amqp://" in done.stderr
        assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cast", "--fanout"], "argument --fanout: not allowed with argument --cast (see forkd call --help)"),
        (["--fanout", "--worker", "1"], "call: --fanout is for all workers, --worker for one"),
        (["--worker", "x"], "a: worker: expected a slot of this host, or HOST/SERVICE/SLOT[/INCARNATION], got 'x'"),
        (["--timeout", "0"], "a: timeout: expected more than 0 seconds, got 0.0"),
        (["x=2026-13-45"], "x: not valid YAML: month must be in 1..12"),
        ([f"x={'[' * 3000}"], "x: not valid YAML: it is nested too deeply"),
        (["--context", "user"], "expected KEY=VALUE, got 'user'"),
        (["--transport", "${NOT_THERE}"], "--transport: ${NOT_THERE} is not set and has no default"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(forkd: Installed, arguments: list[str], said: str) -> None:
    done = forkd.run("call", "a.b", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.partition(": ")[2] == f"{said}\n"


@pytest.mark.parametrize("how", ["--cast", "--fanout"])
def test_without_a_launcher_the_exit_code_is_3(forkd: Installed, how: str) -> None:
    done = forkd.run("call", "a.b", how)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("forkd: no launcher is running on ")
