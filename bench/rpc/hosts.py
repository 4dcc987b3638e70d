"""Serves by a product that is a library: `python -m bench.rpc.hosts oslo|kombu|pika|pyro ADDRESS WORKERS THREADS`."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from typing import Any

from bench.apps.echo import METHODS
from bench.rpc.clients import QUEUE


def oslo(address: str, _: int, threads: int) -> None:
    """Serve by oslo.messaging, with the executor that its documents recommend."""
    from bench.rpc import oslo as library  # lazy: one product is imported, no other

    library.serve(address, QUEUE, threads)


def kombu(address: str, _: int, threads: int) -> None:
    """Serve by kombu: one call at a time, acknowledged after the answer.

    Not in the consumer's callback, as in kombu's example: to publish there calls it again for what has come meanwhile,
    and so on, until Python allows no deeper calls.
    """
    from kombu.connection import Connection  # lazy: as above
    from kombu.entity import Queue  # lazy: as above
    from kombu.messaging import Consumer, Producer  # lazy: as above

    channel = Connection(address).channel()
    producer = Producer(channel, serializer="json")
    come: deque[Any] = deque()
    queue = Queue(QUEUE, durable=False)
    Consumer(channel, queue, on_message=come.append, prefetch_count=threads).consume()
    while True:
        channel.connection.client.drain_events()
        while come:
            message = come.popleft()
            asked = message.decode()
            answer = METHODS[asked["method"]](**asked["args"])
            number = message.properties["correlation_id"]
            producer.publish(answer, routing_key=message.properties["reply_to"], correlation_id=number)
            message.ack()


def pika(address: str, _: int, threads: int) -> None:
    """Serve by pika as its tutorial does: one call at a time, acknowledged after the answer."""
    import pika  # lazy: as above

    channel = pika.BlockingConnection(pika.URLParameters(address)).channel()

    def serve(_: Any, method: Any, properties: Any, body: bytes) -> None:
        asked = json.loads(body)
        answer = json.dumps(METHODS[asked["method"]](**asked["args"])).encode()
        told = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, answer, told)
        channel.basic_ack(method.delivery_tag)

    channel.queue_declare(QUEUE)
    channel.basic_qos(prefetch_count=threads)
    channel.basic_consume(QUEUE, serve)
    channel.start_consuming()


def pyro(address: str, number: int, threads: int) -> None:
    """Serve by Pyro5 on a Unix socket for each process; it has a thread for each connection."""
    import Pyro5.api  # lazy: as above

    methods = {name: _exposed(name) for name in METHODS}
    Pyro5.config.THREADPOOL_SIZE = 2 * threads
    Pyro5.config.SERIALIZER = "msgpack"
    daemon = Pyro5.api.Daemon(unixsocket=address.split(",")[number])
    daemon.register(Pyro5.api.expose(type("Echo", (), methods))(), "echo")
    daemon.requestLoop()


def _exposed(name: str) -> Any:
    def method(_: object, **args: Any) -> dict[str, Any]:
        return METHODS[name](**args)

    method.__name__ = method.__qualname__ = name
    return method


def main() -> None:
    """Serve in so many processes until killed; this one only waits."""
    kind, address, workers, threads = sys.argv[1:]
    serve = {"oslo": oslo, "kombu": kombu, "pika": pika, "pyro": pyro}[kind]
    for number in range(int(workers)):
        if os.fork() == 0:
            serve(address, number, int(threads))
            os._exit(1)
    os.wait()


if __name__ == "__main__":
    main()
