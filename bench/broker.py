"""A RabbitMQ node of our own: free ports, its own name, folder and epmd, no plugins; nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Not the command of Debian, which would run it as another user, in /var/lib.
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
PATIENCE = 60.0  # seconds for its start, and for its end

_CONFIG = """
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 50MB
"""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start a node, yield its URL, and end it with its epmd."""
    if not Path(SERVER).exists():
        sys.exit(f"there is no {SERVER}: install rabbitmq-server")
    with tempfile.TemporaryDirectory(prefix="bench-broker-") as name:
        port, distribution, mapper = _free_ports(3)
        environment = _environment(Path(name), port, distribution, mapper)
        # Started here, since the node would leave the one that it starts itself behind.
        with (
            _process(["epmd", "-port", str(mapper), "-address", "127.0.0.1"], environment),
            _process([SERVER], environment) as node,
        ):
            _await(node, port, Path(name) / "log")
            yield f"amqp://guest:guest@127.0.0.1:{port}/"


def _environment(work: Path, port: int, distribution: int, mapper: int) -> dict[str, str]:
    (work / "rabbitmq.conf").write_text(_CONFIG.format(port=port), "utf-8")
    (work / "plugins").write_text("[].\n", "utf-8")
    own = {
        "HOME": work,  # where Erlang's cookie is
        "ERL_EPMD_PORT": mapper,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench-{port}@localhost",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": distribution,
        "RABBITMQ_CONFIG_FILE": work / "rabbitmq.conf",
        "RABBITMQ_CONF_ENV_FILE": work / "none",
        "RABBITMQ_ENABLED_PLUGINS_FILE": work / "plugins",
        "RABBITMQ_MNESIA_BASE": work / "mnesia",
        "RABBITMQ_LOGS": work / "log",
        "RABBITMQ_PID_FILE": work / "pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "detached": "1",  # its script becomes the node, instead of waiting for it
    }
    return {**os.environ, **{key: str(value) for key, value in own.items()}}


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own as long as the block runs."""
    program = shutil.which(command[0]) or command[0]
    process = subprocess.Popen(
        [program, *command[1:]],
        env=environment,
        cwd=environment["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(node: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if node.poll() is not None or time.monotonic() > deadline:
                told = log.read_text("utf-8", "replace")[-3000:] if log.exists() else "it has not begun to log"
                sys.exit(f"RabbitMQ does not start: {told}")
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
