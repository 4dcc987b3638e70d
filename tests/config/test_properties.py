"""Whatever stands in a file, reading it ends with a configuration or with a ConfigError of one-line problems."""

from __future__ import annotations

import json
import tempfile

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkd.config.decode import config_from, config_to
from forkd.config.load import load
from forkd.config.shape import keys_of, later_keys_of
from forkd.config.substitution import substitute
from forkd.core.spec import Config, RestartSpec, ServiceSpec
from forkd.errors import ConfigError

KEYS = [*keys_of(ServiceSpec), *later_keys_of(ServiceSpec), *keys_of(RestartSpec), "workrs", "services", "defaults"]
bounded = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(
        ["wsgi", "a.b:C", "30s", "1MiB", "127.0.0.1:80", "unix:/a", "auto", "25%", "${X}", "${X:-a}", "$$"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
services = st.dictionaries(
    st.text("ab-_ .", min_size=1, max_size=4), st.dictionaries(st.sampled_from(KEYS), values, max_size=6) | values, max_size=3
)  # fmt: skip
documents = st.fixed_dictionaries(
    {}, optional={"services": services | values, "defaults": st.dictionaries(st.sampled_from(KEYS), values), "log": values, "runtime_dir": values}
)  # fmt: skip
pieces = st.lists(
    st.sampled_from(
        ["services", "a", ": ", ":", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a ", "*a", "<<", "|", ">", "!!int ", "!x ", "'", '"', "\\", "\\u", "#", "---\n", "...\n", "%YAML 1.1\n", "? ", "\t", "${X}", "\x85", "\u2028", "\r", "é", "1"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


def read(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        config, problems = judged(file.name)
        assert all(problem.startswith(file.name) and problem.isprintable() for problem in problems)
    assert config or problems
    if config:  # of the services that the mistakes do not concern
        assert config_from(json.loads(json.dumps(config_to(config)))) == config


def judged(path: str) -> tuple[Config | None, list[str]]:
    try:
        loaded = load(path, {})
    except ConfigError as error:
        return None, error.problems
    return loaded.config, loaded.problems.error().problems


@bounded
@given(st.binary(max_size=200))
def test_any_bytes(data):
    read(data)


@bounded
@given(st.text(max_size=200))
def test_any_text(text):
    read(text.encode("utf-8", "surrogatepass"))


@bounded
@given(pieces)
def test_anything_that_looks_like_yaml(text):
    read(text.encode())


@bounded
@given(documents)
def test_any_document(document):
    read(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@bounded
@given(st.text("${}:-aX_ ", max_size=30))
def test_any_reference(text):
    try:
        done = substitute(text, {"X": "x"})
    except ValueError as error:
        assert str(error)  # noqa: PT017 -- that it raises is one of two good ends
    else:
        assert "${" not in text.replace("$$", "") or done != text


@given(st.text())
def test_dollars_can_be_written(text):
    assert substitute(text.replace("$", "$$"), {}) == text


@pytest.mark.parametrize(
    "text", ["? ? ? a", "[[]: a]", "{[a]: b}", "<<: *a", "&a a: *a", "*a : b", "!<tag:yaml.org,2002:int> x: y"]
)
def test_odd_keys(text):
    read(text.encode())
