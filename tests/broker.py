"""A RabbitMQ of the tests' own: a private node on free ports, with its own name, cookie, home and epmd."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.waiting import until

# Not the one in /usr/sbin, which becomes another user and reads the machine's own configuration.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_TO_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_START = 90.0  # seconds; Erlang on a busy machine
_CONFIGURATION = """
listeners.tcp.1 = {address}:{port}
loopback_users = none
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 1MB
log.file = false
log.console = true
log.console.level = info
"""
_TLS = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {pair.certfile}
ssl_options.keyfile = {pair.keyfile}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
"""


class Broker:
    """A node that runs from `start` to `stop`, any number of times, and leaves nothing behind after `end`.

    `command` is what it is started by, for one that is to run elsewhere. Of an `authority` it has a certificate, and
    speaks TLS on another port with those who have one, too.
    """

    def __init__(
        self, address: str = "127.0.0.1", command: tuple[str, ...] = (), authority: Authority | None = None
    ) -> None:
        if not _SERVER.exists():
            pytest.fail("rabbitmq-server is missing: apt-get install rabbitmq-server, or make system-packages")
        self.home = Path(tempfile.mkdtemp(prefix="fkd-mq-", dir="/tmp"))
        self.address = address
        self.port, self.tls_port, distribution, epmd_port = _free_ports(4)
        self._command = command
        self._node = f"forkd-{secrets.token_hex(4)}@localhost"
        self._cookie = secrets.token_hex(16)
        self._vhosts = 0
        configuration = _CONFIGURATION.format(address=address, port=self.port)
        if authority is not None:
            pair = authority.issue("broker")
            configuration += _TLS.format(port=self.tls_port, ca=authority.certfile, pair=pair)
        (self.home / "plugins").write_text("[rabbitmq_auth_mechanism_ssl].")
        (self.home / "rabbitmq.conf").write_text(configuration)
        (self.home / ".erlang.cookie").write_text(self._cookie)
        (self.home / ".erlang.cookie").chmod(0o400)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +SDcpu 1:1 +SDio 1 +A 1",  # it need not be fast
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RUNNING_UNDER_SYSTEMD": "true",  # no shell between us and it
        }
        # In the foreground, so that it has an end: a node would start one by itself, to stay.
        epmd = [*_TO_DIE_WITH_US, *command, "epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
        self._epmd = subprocess.Popen(epmd, env=self._environment, stdin=subprocess.DEVNULL)
        self.process: subprocess.Popen | None = None

    def start(self):
        """Start the node and wait until it takes connections."""
        with open(self.home / "log.txt", "ab") as log:
            self.process = subprocess.Popen(
                [*_TO_DIE_WITH_US, *self._command, str(_SERVER)],
                env=self._environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._greets, timeout=_START, what="the broker takes connections")

    def stop(self):
        """Have the node end in good order."""
        self._end(signal.SIGTERM)

    def kill(self):
        """Have the node end at once."""
        self._end(signal.SIGKILL)

    def suspend(self):
        """Have the node do nothing, with its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Have the node go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Stop what runs and remove what it wrote."""
        if self.process is not None:
            self.kill()
        self._epmd.kill()
        self._epmd.wait(30)
        shutil.rmtree(self.home)

    def evaluate(self, expression: str) -> str:
        """Evaluate an expression of Erlang in the node and return what it comes to."""
        done = subprocess.run(
            [*self._command, "erl_call", "-sname", self._node, "-c", self._cookie, "-e"],
            env=self._environment,
            input=f"{expression}.\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.startswith("{ok, "), done.stdout + done.stderr
        return done.stdout.removeprefix("{ok, ").removesuffix("}")

    def vhost(self) -> str:
        """Make a virtual host, which shares nothing with the others, and return its name."""
        self._vhosts += 1
        name = f"v{self._vhosts}"
        self.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
        self.permit("guest", name)
        return name

    def user(self, name: str, password: str) -> None:
        """Make a user, or give one that there is another password."""
        known = f'rabbit_auth_backend_internal:exists(<<"{name}">>)'
        arguments = f'<<"{name}">>, <<"{password}">>, <<"tests">>'
        self.evaluate(
            f"case {known} of true -> rabbit_auth_backend_internal:change_password({arguments}); "
            f"false -> rabbit_auth_backend_internal:add_user({arguments}) end"
        )

    def permit(self, user: str, vhost: str, configure: str = ".*", write: str = ".*", read: str = ".*"):
        """Give a user rights in a virtual host."""
        names = ", ".join(f'<<"{each}">>' for each in (user, vhost, configure, write, read, "tests"))
        self.evaluate(f"rabbit_auth_backend_internal:set_permissions({names})")

    def url(self, vhost: str = "", options: str = "") -> str:
        """Return the address by which workers and clients come here."""
        return f"amqp://guest:guest@{self.address}:{self.port}/{vhost}{options}"

    def alarm(self, *, on: bool):
        """Have it run short of memory, in its own view, or not any more."""
        what = "set_alarm" if on else "clear_alarm"
        alarm = "{resource_limit, memory, node()}"
        self.evaluate(f"rabbit_alarm:{what}({f'{{{alarm}, []}}' if on else alarm})")

    def cut(self, name: str = ""):
        """Close the connections whose name has this in it, as an operator can."""
        self.evaluate(
            '[rabbit_networking:close_connection(Pid, "cut") || Pid <- rabbit_networking:connections(), '
            "[{client_properties, Properties}] <- [rabbit_reader:info(Pid, [client_properties])], "
            f'string:find(io_lib:format("~p", [Properties]), "{name}") =/= nomatch]'
        )

    def log(self) -> str:
        """Return what the node has said so far."""
        return (self.home / "log.txt").read_text(errors="replace")

    def _end(self, number: int):
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)
        self.process = None

    def _greets(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-4000:]
        if self._command:
            return f"started TCP listener on {self.address}:{self.port}" in self.log()
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 5) as sock:
            sock.sendall(b"AMQP\0\0\x09\x01")
            return sock.recv(1) != b""
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


if __name__ == "__main__":  # for a look at one
    broker = Broker()
    try:
        broker.start()
        print(broker.url(broker.vhost()))
        broker.alarm(on=True)
        broker.alarm(on=False)
        broker.cut()
        print(broker.log()[-1000:])
    finally:
        broker.end()
