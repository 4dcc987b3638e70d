"""The JSON Schema and the reference page: what is derived from the fields agrees with what is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from forkd import config
from forkd.config.reference import page
from forkd.core.spec import AccessLogSpec, HealthcheckSpec, RecycleSpec, RestartSpec, ServiceSpec, TlsSpec
from tests.config import test_mistakes

ROOT = Path(__file__).parent.parent.parent
SCHEMA = config.schema()
# What no schema can say: what stands elsewhere in the file or on this machine, and characters of YAML's.
BEYOND = (
    "makes sense only", "that exists", "expected at most", "given twice", "NUL", "surrogate", "octal digits", "${",
    "tag", "<<", "1:30", "keyword argument", "environment variable", "no service is named", "comes after", '"4"', 'got "7',
)  # fmt: skip


def valid(document: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_has_every_key_with_its_meaning():
    properties = SCHEMA["$defs"]["Service"]["properties"]
    assert set(properties) == set(ServiceSpec._fields) - {"name", "lease"} | {"stdout", "stderr"}
    assert set(SCHEMA["$defs"]["Restart"]["properties"]) == set(RestartSpec._fields)
    assert all("description" in schema or "$ref" in schema for schema in properties.values())


def test_editors_learn_choices_defaults_and_patterns():
    properties = SCHEMA["$defs"]["Service"]["properties"]
    assert {"enum": ["eventlet", "threads"]} in properties["concurrency"]["anyOf"]
    assert properties["stop_timeout"]["default"] == 30
    assert any("pattern" in one for one in properties["stop_timeout"]["anyOf"])
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["$defs"]["Service"]["additionalProperties"] is False


@pytest.mark.parametrize("name", ["services.yaml", "reference.yaml"])
def test_the_examples_are_valid(name):
    jsonschema.validate(yaml.safe_load((ROOT / "conf" / name).read_text("utf-8")), SCHEMA)


@pytest.mark.parametrize(
    "service",
    [
        {"workers": "auto"},
        {"workers": "${N:-3}"},
        {"surge": "25%"},
        {"umask": 27},
        {"umask": "0o27"},
        {"stop_timeout": 1.5},
        {"stop_timeout": "250ms"},
        {"bind": "127.0.0.1:80"},
        {"bind": ["[::1]:80", "unix:/a"]},
        {"environment": {"A": "a", "B": 1}},
        {"args": {"a": [1, {"b": None}]}},
        {"restart": {"delay": "1s"}},
        {"user": None},
        {"user": 33},
        {"stdout": "inherit"},
    ],
)
def test_what_is_valid(service):
    assert valid({"services": {"shop": {"server": "wsgi", **service}}})


@pytest.mark.parametrize(
    "line", [line for line, problem in test_mistakes.OF_A_SERVICE if not any(part in problem for part in BEYOND)]
)
def test_what_is_not(line):
    assert not valid(yaml.safe_load(f"{test_mistakes.OWN}    {line}\n"))


@pytest.mark.parametrize(
    "document",
    [
        {"servces": {}},
        {"log": {"format": "xml"}},
        {"services": {"a b": {}}},
        {"services": {"a": {"allow": 3}}},
        {"services": []},
        {"defaults": {"worker": 3}},
    ],
)
def test_what_no_file_may_be(document):
    assert not valid(document)


def test_the_reference_page_is_up_to_date():
    written = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert written == page(), "write it anew: python -m forkd.config.reference > docs/reference.md"


def test_the_reference_page_has_every_key():
    parts = (RestartSpec, RecycleSpec, HealthcheckSpec, AccessLogSpec, TlsSpec)
    for name in (*ServiceSpec._fields[1:], *(name for part in parts for name in part._fields)):
        assert f"| `{name}` |" in page()


def test_it_is_printed_by_its_module():
    done = subprocess.run([sys.executable, "-P", "-m", "forkd.config.reference"], capture_output=True, check=True)
    assert done.stdout.decode() == page()
