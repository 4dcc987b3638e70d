"""oslo.messaging over RabbitMQ as its documents recommend it: native threads, nothing green."""

from __future__ import annotations

import os
import socket
from typing import Any

from oslo_config import cfg
from oslo_service import backend

from bench.apps.echo import METHODS

backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402 -- it takes eventlet's backend unless another was chosen

CONNECTIONS = 256  # at most; by default it has too few for as many callers, and warns


def client(address: str, topic: str, timeout: float) -> Any:
    """Return a client, which its threads share with its pool of connections."""
    return oslo_messaging.get_rpc_client(_transport(address), oslo_messaging.Target(topic=topic), timeout=timeout)


def serve(address: str, topic: str, threads: int) -> None:
    """Serve until killed, so many calls at a time."""
    os.environ["OS_DEFAULT__EXECUTOR_THREAD_POOL_SIZE"] = str(threads)
    target = oslo_messaging.Target(topic=topic, server=f"{socket.gethostname()}-{os.getpid()}")
    endpoint = type("Endpoint", (), {name: _endpoint(name) for name in METHODS})
    server = oslo_messaging.get_rpc_server(_transport(address), target, [endpoint()], executor="threading")
    server.start()
    server.wait()


def _transport(address: str) -> Any:
    os.environ["OS_OSLO_MESSAGING_RABBIT__RPC_CONN_POOL_SIZE"] = str(CONNECTIONS)
    cfg.CONF([], project="bench")  # some of the library knows no other
    return oslo_messaging.get_rpc_transport(cfg.CONF, url=address.replace("amqp:", "rabbit:"))


def _endpoint(name: str) -> Any:
    return lambda _, context, **args: METHODS[name](**args)  # noqa: ARG005 -- the context comes by position
