"""Keys that come with a later version: known, checked, refused, and never ignored."""

from __future__ import annotations

import pytest

LATER = "not yet supported in this version of forkd"

SERVICE = {
    "capabilities": "[CAP_NET_BIND_SERVICE]",
    "no_new_privileges": "true",
    "command": '["/usr/bin/redis-server", "--port", "6379"]',
    "ready": "{port: 6379}",
    "stdout": "capture",
    "stderr": "{file: /var/log/shop.log, max_size: 50MiB, keep: 5}",
}
FILE = {
    "control": "{group: root}",
    "dashboard": "{bind: 127.0.0.1:9180, token_file: /etc/forkd/token}",
    "on_event": "[{kinds: [exited, failed], command: [/usr/local/bin/page]}]",
}
ILL_TYPED = [
    ("no_new_privileges: 1", "24: services.a.no_new_privileges: expected true or false, got 1"),
    ("stdout: file", '13: services.a.stdout: expected "inherit", "capture" or {file: …, max_size: …, keep: …}, got "file"'),
]  # fmt: skip


def test_the_examples_are_all_there_is():
    from forkd.config.later import (
        LaterFileKeys,
        LaterService,
    )  # lazy: the table above is the contract's, not the code's

    assert set(SERVICE) == set(LaterService._fields)
    assert set(FILE) == set(LaterFileKeys._fields)


@pytest.mark.parametrize(("key", "value"), SERVICE.items(), ids=SERVICE)
@pytest.mark.parametrize("place", ["service", "defaults"])
def test_a_key_of_a_service(told, key, value, place):
    if place == "service":
        text = f"services:\n  a:\n    server: a:B\n    {key}: {value}\n"
        assert told(text) == [f"services.yaml:4:5: services.a.{key}: {LATER}"]
    else:
        text = f"services: {{a: {{server: 'a:B'}}}}\ndefaults:\n  {key}: {value}\n"
        assert told(text) == [f"services.yaml:3:3: defaults.{key}: {LATER}"]


@pytest.mark.parametrize(("key", "value"), FILE.items(), ids=FILE)
def test_a_key_of_the_file(told, key, value):
    text = f"services: {{a: {{server: 'a:B'}}}}\n{key}: {value}\n"
    assert told(text) == [f"services.yaml:2:1: {key}: {LATER}"]


def test_an_address_of_socket_activation(told):
    text = "services:\n  a:\n    server: wsgi\n    app: a:b\n    bind: fd:http\n"
    assert told(text) == [f"services.yaml:5:11: services.a.bind: {LATER}"]


@pytest.mark.parametrize(("line", "problem"), ILL_TYPED)
def test_a_wrong_value_is_told_too(told, line, problem):
    problems = told(f"services:\n  a:\n    server: a:B\n    {line}\n")
    key = line.partition(":")[0]
    assert problems == [f"services.yaml:4:5: services.a.{key}: {LATER}", f"services.yaml:4:{problem}"]


def test_a_service_with_a_command_needs_no_server(told):
    assert told("services:\n  a:\n    command: /bin/cat\n") == [f"services.yaml:3:5: services.a.command: {LATER}"]
