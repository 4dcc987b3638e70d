"""`env_file`: what systemd's EnvironmentFile= would take from it, and what is no such file."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkd.config.envfile import parse

HEAD = "services:\n  shop:\n    server: a.b:C\n"
ASKED = f"{HEAD}    env_file: shop.env\n"
SECRET = "hunter2"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A=", ""),
        ("  A = two words \t", "two words"),
        ("A=x=y", "x=y"),
        ("A=a # no comment", "a # no comment"),
        ("A='it is $HOME \\n'", "it is $HOME \\n"),
        ('A="a \\"b\\" \\\\ \\$ \\` \\n"', 'a "b" \\ $ ` \\n'),
        ('A="a"\'b\' c', "abc"),
        ('A=a"b"', 'a"b"'),
        ("A=a\\ b\\'\\\\", "a b'\\"),
        ("A=a\\ ", "a "),
        ("A=a \\\n  b", "a   b"),
        ('A="a\\\nb"', "ab"),
        ("A='one\ntwo'", "one\ntwo"),
        ('A="one\ntwo"', "one\ntwo"),
        ("A=a\r\n", "a"),
        ("A=a\\", "a"),
        ("A=$(id) ${HOME} `id`", "$(id) ${HOME} `id`"),
        ("A=first\nA=ü", "ü"),
        ("\ufeffA=a", "a"),
    ],
)  # fmt: skip
def test_a_line(folder, line, value):
    folder.write(line, "shop.env")
    folder.write(ASKED)
    assert folder.load().services[0].environment == {"A": value}


def test_comments_and_blank_lines_are_nothing(folder):
    folder.write("# A=1\n\n  ; B=2\n \t\n#C=3 \\\nD=4\n#", "shop.env")
    folder.write(ASKED)
    assert folder.load().services[0].environment == {"D": "4"}


def test_environment_wins(folder):
    folder.write("A=file\nB=file\nC=file\n", "shop.env")
    text = f"{ASKED}    environment: {{A: service}}\ndefaults:\n  environment: {{A: all, B: all}}\n"
    folder.write(text)
    spec = folder.load().services[0]
    assert spec.environment == {"A": "service", "B": "all", "C": "file"}
    assert spec.env_file == f"{folder.path}/shop.env"


def test_a_file_for_all_services_but_one(folder):
    folder.write("A=all\n", "all.env")
    folder.write("B=own\n", "own.env")
    folder.write(
        "defaults: {env_file: all.env}\n"
        "services:\n"
        "  a: {server: 'a:B'}\n"
        "  b: {server: 'a:B', env_file: own.env}\n"
        "  c: {server: 'a:B', env_file: null}\n"
    )
    assert [spec.environment for spec in folder.load().services] == [{"A": "all"}, {"B": "own"}, {}]


def test_every_mistake_is_told_with_its_place_and_without_a_value(told, folder):
    folder.write(f"A=1\n  {SECRET}\nexport B={SECRET}\n1C={SECRET}\n=x\nD='{SECRET}\n", "shop.env")
    text = "expected NAME=VALUE, or a comment that begins with #"
    assert told(ASKED) == [
        f"shop.env:2:3: services.shop.env_file: {text}",
        f"shop.env:3:1: services.shop.env_file: {text}",
        f"shop.env:4:1: services.shop.env_file: {text}",
        f"shop.env:5:1: services.shop.env_file: {text}",
        "shop.env:6:3: services.shop.env_file: a quote that is never closed",
    ]


def test_of_another_kind_of_file_the_first_mistakes_are_told(told, folder):
    folder.write("[section]\n" * 100_000, "shop.env")
    assert len(told(ASKED)) == 20


def test_a_file_that_is_not_there(told):
    assert told(ASKED) == [
        "services.yaml:4:15: services.shop.env_file: shop.env: cannot read: no such file or directory"
    ]


def test_a_pipe_is_not_waited_for(told, folder):
    os.mkfifo(folder.path / "shop.env")
    assert told(ASKED) == ["services.yaml:4:15: services.shop.env_file: shop.env: cannot read: it is no regular file"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"A=\0", "not a text file: it holds NUL bytes"),
        (b"A=1\nB=\xff", "not a text file: line 2 is not UTF-8"),
        (b"#" * (1 << 20) + b"\n", "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_text(told, folder, data, problem):
    folder.write(data, "shop.env")
    assert told(ASKED) == [f"services.yaml:4:15: services.shop.env_file: shop.env: {problem}"]


def test_a_mistake_in_the_file_of_the_defaults_is_told_once(told, folder):
    folder.write(SECRET, "all.env")
    services = "services: {a: {server: 'a:B'}, b: {server: 'a:B'}}\n"
    assert told(f"defaults: {{env_file: all.env}}\n{services}") == [
        "all.env:1:1: defaults.env_file: expected NAME=VALUE, or a comment that begins with #"
    ]


def test_more_than_a_message_holds(told, folder):
    folder.write(f"A={SECRET}{'x' * 60_000}", "shop.env")
    (problem,) = told(ASKED)
    assert problem.startswith("services.yaml:2:3: services.shop: too large: ")
    assert SECRET not in problem


@given(st.text("AB=#;'\"\\ \t\r\n$"))
def test_any_text_ends(text):
    variables, mistakes = parse(text)
    assert len(variables) + len(mistakes) <= text.count("=") + text.count("\n") + text.count("\r") + 1


@given(st.text().filter(lambda text: "\0" not in text and "\r" not in text))
def test_any_value_can_be_written(value):
    quoted = '"' + "".join(f"\\{one}" if one in '"\\$`' else one for one in value) + '"'
    assert parse(f"A={quoted}\nB=b") == ({"A": value, "B": "b"}, [])
