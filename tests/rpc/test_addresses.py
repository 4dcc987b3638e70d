"""What an address of a broker means, and that a mistake in one shows nothing of what may be secret."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forkd.errors import ForkdError
from forkd.rpc.transports.amqp.address import Address, parse

PLAIN = Address(("h:5672",), False, "/", "guest", "guest", "", "", "", "", 15, 10_000)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("amqp://h", PLAIN),
        ("amqp://h/", PLAIN),
        ("amqp://h/%2F", PLAIN),
        ("amqp://h:1/v", PLAIN._replace(hosts=("h:1",), vhost="v")),
        ("amqps://a,[::1]:7,1.2.3.4/a%2Fb", PLAIN._replace(hosts=("a:5671", "[::1]:7", "1.2.3.4:5671"), tls=True, vhost="a/b")),
        ("amqp://u:p%40%2F@h", PLAIN._replace(user="u", given_password="p@/")),
        ("amqp://u@h?password_file=/p", PLAIN._replace(user="u", given_password="", password_file="/p")),
        ("amqp://h?heartbeat=3&waiting=7", PLAIN._replace(heartbeat=3, waiting=7)),
        (
            "amqps://h?ca=/ca&cert=/c&key=/k",
            PLAIN._replace(hosts=("h:5671",), tls=True, user="", given_password="", ca="/ca", cert="/c", key="/k"),
        ),
    ],
)  # fmt: skip
def test_an_address(text, address):
    assert parse(text) == address
    assert "p@" not in address.shown


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://h", "expected amqp://"),
        ("amqp://", "expected HOST or HOST:PORT"),
        ("amqp://h:0", "expected HOST"),
        ("amqp://h:65536", "expected HOST"),
        ("amqp://a,,b", "expected HOST"),
        ("amqp://u:hunter2/x@h", "expected HOST"),
        ("amqp://u:x?hunter2@h", "expected amqp://"),
        ("amqp://u:x#hunter2@h", "expected amqp://"),
        ("amqp://[hunter2", "expected HOST"),
        ("amqp://:hunter2@h", "expected a user before the @"),
        ("amqp://h?hunter2=1", "is one of password_file, ca, cert, key, heartbeat, waiting"),
        ("amqp://h?heartbeat", "expected amqp://"),
        ("amqp://h?heartbeat=0", "heartbeat: expected a number from 1 to 3600, got '0'"),
        ("amqp://h?waiting=many", "waiting: expected a number from 1 to 1000000, got 'many'"),
        ("amqp://u@h?password_file=p", "password_file: expected an absolute path, got 'p'"),
        ("amqp://u:hunter2@h?password_file=/p", "there is a password before the @ already"),
        ("amqp://h?ca=/ca", "ca, cert and key make sense only with amqps://"),
        ("amqps://h?key=/ca", "cert and key go together"),
    ],
)
def test_what_is_no_address(text, problem):
    with pytest.raises(ForkdError) as caught:
        parse(text)
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "password"), [(b"a\n", "a"), (b"a\n\n", "a\n"), (b"", ""), (b"\xff", None), (b"x" * 5000, None)]
)
def test_a_password_s_file(tmp_path, content, password):
    file = tmp_path / "password"
    file.write_bytes(content)
    address = parse(f"amqp://u@h?password_file={file}")
    if password is None:
        with pytest.raises(ForkdError, match=f"^password_file: {file}: [^x]"):
            _ = address.password
    else:
        assert address.password == password


def test_what_is_not_installed_is_told():
    code = (
        "import sys; sys.modules['kombu'] = None; from forkd import rpc; import forkd\n"
        "try: rpc.Client('t', 'amqp://h')\n"
        "except forkd.errors.ForkdError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "t: the amqp transport needs kombu: pip install 'forkd[amqp]'\n"
