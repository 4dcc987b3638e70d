"""A RabbitMQ of the tests' own: a private node on free ports, with its own name, cookie, home and epmd."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.program import TO_DIE_WITH_US, Program

if TYPE_CHECKING:
    from tests.certificates import Authority

# Not the one in /usr/sbin, which becomes another user and reads the machine's own configuration.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_SMALL = "+S 1:1 +SDcpu 1:1 +SDio 1 +A 1"
_PRIVATE = "-kernel inet_dist_use_interface {127,0,0,1}"
_CONFIGURATION = """
listeners.tcp.1 = {host}:{port}
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


class Broker(Program):
    """A node, which runs elsewhere if it is told a command to be `under`; it need not be fast, unless it is to be so.

    Of an `authority` it has a certificate, and speaks TLS on another port with those who have one, too.
    """

    READY = "Server startup complete"

    def __init__(
        self,
        host: str = "127.0.0.1",
        under: tuple[str, ...] = (),
        authority: Authority | None = None,
        *,
        fast: bool = False,
    ) -> None:
        if not _SERVER.exists():
            raise FileNotFoundError(
                "rabbitmq-server is missing: apt-get install rabbitmq-server, or make system-packages"
            )
        super().__init__(Path(tempfile.mkdtemp(prefix="fkd-mq-", dir="/tmp")), host, under)
        self.tls_port = self.ports.take()
        self._node = f"forkd-{secrets.token_hex(4)}@localhost"
        self._cookie = secrets.token_hex(16)
        self._vhosts = 0
        self._mapper = str(self.ports.take())
        self._epmd: subprocess.Popen[bytes] | None = None
        configuration = _CONFIGURATION.format(host=host, port=self.port)
        if authority is not None:
            pair = authority.issue("broker")
            configuration += _TLS.format(port=self.tls_port, ca=authority.certfile, pair=pair)
        (self.folder / "plugins").write_text("[rabbitmq_auth_mechanism_ssl].")
        (self.folder / "rabbitmq.conf").write_text(configuration)
        (self.folder / ".erlang.cookie").write_text(self._cookie)
        (self.folder / ".erlang.cookie").chmod(0o400)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self._mapper,
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self.ports.take()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_PRIVATE} {'' if fast else _SMALL}",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RUNNING_UNDER_SYSTEMD": "true",  # no shell between us and it
        }

    def command(self) -> list[str]:
        return [str(_SERVER)]

    def start(self) -> None:
        if self._epmd is None:
            # In the foreground, so that it has an end: a node would start one by itself, to stay.
            epmd = [*TO_DIE_WITH_US, *self._under, "epmd", "-port", self._mapper, "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(epmd, env=self.environment, stdin=subprocess.DEVNULL)
        super().start()

    def end(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(30)
        super().end()

    def evaluate(self, expression: str) -> str:
        """Evaluate an expression of Erlang in the node and return what it comes to."""
        done = subprocess.run(
            [*self._under, "erl_call", "-sname", self._node, "-c", self._cookie, "-e"],
            env=self.environment,
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

    def permit(self, user: str, vhost: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Give a user rights in a virtual host."""
        names = ", ".join(f'<<"{each}">>' for each in (user, vhost, configure, write, read, "tests"))
        self.evaluate(f"rabbit_auth_backend_internal:set_permissions({names})")

    def url(self, vhost: str = "", options: str = "") -> str:
        """Return the address by which workers and clients come here."""
        return f"amqp://guest:guest@{self.host}:{self.port}/{vhost}{options}"

    def alarm(self, *, on: bool) -> None:
        """Have it run short of memory, in its own view, or not any more."""
        what = "set_alarm" if on else "clear_alarm"
        alarm = "{resource_limit, memory, node()}"
        self.evaluate(f"rabbit_alarm:{what}({f'{{{alarm}, []}}' if on else alarm})")

    def cut(self, name: str = "") -> None:
        """Close the connections whose name has this in it, as an operator can."""
        self.evaluate(
            '[rabbit_networking:close_connection(Pid, "cut") || Pid <- rabbit_networking:connections(), '
            "[{client_properties, Properties}] <- [rabbit_reader:info(Pid, [client_properties])], "
            f'string:find(io_lib:format("~p", [Properties]), "{name}") =/= nomatch]'
        )


if __name__ == "__main__":  # for a look at one
    with Broker() as broker:
        print(broker.url(broker.vhost()))
        broker.alarm(on=True)
        broker.alarm(on=False)
        broker.cut()
        print(broker.output()[-1000:])
