"""How each product is called by the threads of one process: as its documents say, the faster of their ways.

A kind takes where its workers are and the seconds that a call may take, and returns what gives each thread its call.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Args = dict[str, Any]
Call = Callable[[str, Args], Any]
Connect = Callable[[], Call]

DIRECT = "amq.rabbitmq.reply-to"  # https://www.rabbitmq.com/docs/direct-reply-to
QUEUE = "bench"


def forkd(address: str, timeout: float) -> Connect:
    """Share one client; the address is a runtime directory, or a broker's URL."""
    from forkd import rpc  # lazy: one product is imported, no other

    if "://" in address:
        client = rpc.Client("echo", transport=address, timeout=timeout)
    else:
        client = rpc.Client("echo", timeout=timeout, runtime_dir=address)
    return lambda: lambda method, args: client.call(method, **args)


def oslo(address: str, timeout: float) -> Connect:
    """Share one client, with the library's pool of connections."""
    from bench.rpc import oslo as library  # lazy: as above

    client = library.client(address, QUEUE, timeout)
    return lambda: lambda method, args: client.call({}, method, **args)


def kombu(address: str, timeout: float) -> Connect:
    """Have a connection for each thread, since kombu's are not for several."""
    from kombu.connection import Connection  # lazy: as above
    from kombu.entity import Queue  # lazy: as above
    from kombu.messaging import Consumer, Producer  # lazy: as above

    def connect() -> Call:
        channel = Connection(address).channel()
        answers: dict[str, Any] = {}
        numbers = itertools.count()
        producer = Producer(channel, serializer="json")

        def take(body: Any, message: Any) -> None:
            answers[message.properties["correlation_id"]] = body

        Consumer(channel, Queue(DIRECT, no_declare=True), callbacks=[take], no_ack=True).consume()

        def call(method: str, args: Args) -> Any:
            number = str(next(numbers))
            deadline = time.monotonic() + timeout
            properties = {"reply_to": DIRECT, "correlation_id": number, "expiration": timeout}
            answers.clear()
            producer.publish({"method": method, "args": args}, routing_key=QUEUE, **properties)
            while number not in answers:
                channel.connection.client.drain_events(timeout=max(0.001, deadline - time.monotonic()))
            return answers[number]

        return call

    return connect


def pika(address: str, timeout: float) -> Connect:
    """Have a connection for each thread, since pika's are not for several."""
    import pika  # lazy: as above

    def connect() -> Call:
        connection = pika.BlockingConnection(pika.URLParameters(address))
        channel = connection.channel()
        answers: dict[str, bytes] = {}
        numbers = itertools.count()

        def take(_: Any, __: Any, properties: Any, body: bytes) -> None:
            answers[properties.correlation_id] = body

        channel.basic_consume(DIRECT, take, auto_ack=True)

        def call(method: str, args: Args) -> Any:
            number = str(next(numbers))
            deadline = time.monotonic() + timeout
            expiration = str(int(timeout * 1000))
            properties = pika.BasicProperties(reply_to=DIRECT, correlation_id=number, expiration=expiration)
            answers.clear()
            channel.basic_publish("", QUEUE, json.dumps({"method": method, "args": args}).encode(), properties)
            while number not in answers:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.process_data_events(left)
            return json.loads(answers[number])

        return call

    return connect


def pyro(address: str, timeout: float) -> Connect:
    """Have a proxy for each thread, the workers in turn; the addresses are those of their sockets."""
    import Pyro5.api  # lazy: as above

    Pyro5.config.SERIALIZER = "msgpack"
    turn = itertools.cycle(address.split(","))
    lock = threading.Lock()

    def connect() -> Call:
        with lock:
            proxy = Pyro5.api.Proxy(f"PYRO:echo@./u:{next(turn)}")
        proxy._pyroTimeout = timeout  # noqa: SLF001 -- the documented way
        return lambda method, args: getattr(proxy, method)(**args)

    return connect


def web(address: str, timeout: float) -> Connect:
    """Keep a connection for each thread, with the standard library's client."""
    where = urlsplit(address).netloc

    def connect() -> Call:
        connection = http.client.HTTPConnection(where, timeout=timeout)
        headers = {"Content-Type": "application/json"}

        def call(method: str, args: Args) -> Any:
            try:
                connection.request("POST", f"/{method}", json.dumps(args).encode(), headers)
                response = connection.getresponse()
                body = response.read()
            except OSError:
                connection.close()  # the next call opens it again
                raise
            if response.status != 200:
                raise ConnectionError(response.reason)
            return json.loads(body)

        return call

    return connect


KINDS: dict[str, Callable[[str, float], Connect]] = {
    "forkd": forkd,
    "oslo": oslo,
    "kombu": kombu,
    "pika": pika,
    "pyro": pyro,
    "web": web,
}
