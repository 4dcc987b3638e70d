"""What is measured of remote calls: each product in one configuration, and how it is called."""

from __future__ import annotations

from typing import NamedTuple

from bench.peers import Peer

FORKD = """
runtime_dir: {work}/run
services:
  echo:
    server: bench.apps.echo:Echo
    topic: echo
    transport: "TRANSPORT"
    workers: {workers}
    threads: {threads}
    concurrency: CONCURRENCY
    pythonpath: ["{root}"]
"""


class Product(NamedTuple):
    """A product: its servers, the kind of its clients in `clients`, and the address that those are given.

    `bounded`: so many calls run at once as it is told, so that it can be overloaded.
    """

    peer: Peer
    kind: str
    address: str
    bounded: bool = True

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return self.peer.name

    @property
    def needs_broker(self) -> bool:
        """Tell whether its calls go through RabbitMQ."""
        return "{broker}" in self.address


def everybody() -> list[Product]:
    """Return forkd with each transport and engine, and its peers."""
    gunicorn = ("--bind=127.0.0.1:{port}", "--workers={workers}", "--worker-class=gthread", "--threads={threads}")
    return [
        _forkd("local", "threads"),
        _forkd("local", "eventlet"),
        _forkd("amqp", "threads"),
        _forkd("amqp", "eventlet"),
        _hosted("oslo.messaging", "oslo", "{broker}"),
        _hosted("kombu by hand", "kombu", "{broker}"),
        _hosted("pika by hand", "pika", "{broker}"),
        _hosted("Pyro5", "pyro", "{work}/0.sock,{work}/1.sock")._replace(bounded=False),
        Product(
            Peer("gunicorn, JSON", ("gunicorn", *gunicorn, "bench.apps.echo:application")),
            "web",
            "http://127.0.0.1:{port}",
        ),
    ]


def _forkd(transport: str, concurrency: str) -> Product:
    address, where = ("{work}/run", "local") if transport == "local" else ("{broker}", "{broker}")
    config = FORKD.replace("TRANSPORT", where).replace("CONCURRENCY", concurrency)
    command = ("forkd", "start", "--config", "{config}")
    return Product(Peer(f"forkd {transport}, {concurrency}", command, config), "forkd", address)


def _hosted(name: str, kind: str, address: str) -> Product:
    command = ("python", "-m", "bench.rpc.hosts", kind, address, "{workers}", "{threads}")
    return Product(Peer(name, command), kind, address)
