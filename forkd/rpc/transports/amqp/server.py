"""The worker's side of the amqp transport: its life on the broker, from the first connection to the last word.

The broker gives it no more calls than it has threads, and each is acknowledged with its answer: what waits, waits in
the broker, and what a worker that is lost had in hand comes to another one, marked as delivered before.

To drain: cancel what brings calls, let the dispatcher finish, close. What still arrives meanwhile is refused as moved.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.rpc.transports.amqp import names
from forkd.rpc.transports.amqp.connecting import Guest, connect
from forkd.rpc.transports.amqp.consumer import CHANNEL, Consumer
from forkd.rpc.transports.amqp.hands import Hands
from forkd.rpc.transports.amqp.link import Link
from forkd.service import WorkerIdentity

if TYPE_CHECKING:
    from forkd.rpc.dispatcher import Dispatcher
    from forkd.rpc.transports.amqp.address import Address
    from forkd.service import Service

_log = logging.getLogger("forkd.rpc")

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0  # seconds between two tries to connect
_MOST_UNANSWERED = 65535  # a broker counts no further
_LAST_WORDS = 5.0  # seconds for a broker to confirm what it is told


class AmqpServer:
    """The intake of one worker: one connection at a time, and another when that is lost, until it is stopped."""

    def __init__(self, service: Service, topic: str, address: Address, dispatcher: Dispatcher) -> None:
        self._me = service.worker or WorkerIdentity(socket.gethostname(), service.name, 0, os.getpid())
        self._topic = topic
        self._queues = names.of_topic(topic), names.of_place(topic, self._me.host, self._me.slot)
        self._address = address
        self._group = service.thread_group
        self._dispatcher = dispatcher
        self._hands = Hands(dispatcher, str(self._me))
        self._reader = dispatcher.crew.reader()
        self._stopping = threading.Event()
        self._why = ""  # the last connection has ended

    def start(self) -> None:
        """Take calls from now on. Raise `ForkdError` where no broker can be reached, or does not want us."""
        self._reader.start()
        try:
            consumer = self._connect()
        except ForkdError as error:
            raise ForkdError(f"{self._topic}: {error}") from None
        consumer.begun.wait()
        if consumer.over.is_set() and not self._stopping.is_set():
            raise ForkdError(f"{self._topic}: the broker gives us no calls: {self._why}")

    def stop(self, graceful: bool) -> None:
        """Take nothing more; graceful: return when all that began is answered, else cut the connection.

        A second call, from another thread and not graceful, ends a first one that takes too long.
        """
        self._stopping.set()
        consumer = self._hands.consumer
        if graceful and consumer is not None:
            consumer.cancel()
            consumer.cancelled.wait(_LAST_WORDS)
            self._dispatcher.drain()
            self._dispatcher.wait()
            consumer.farewell()
            consumer.over.wait(_LAST_WORDS)
        if consumer is not None:
            consumer.cut("stopped")
            self._reader.stop()
            consumer.close()
        self._dispatcher.abandon()

    def _on_end(self, why: str) -> None:
        self._why = why
        if self._stopping.is_set():
            return
        _log.warning("%s: the connection to the broker was lost: %s", self._topic, why)
        with contextlib.suppress(ForkdError):  # everything ends at this moment
            self._group.add_loop(self._connect_again)

    def _connect_again(self) -> None:
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            self._group.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 -- lest all workers come at once
            try:
                consumer = self._connect()
            except ForkdError as error:
                _log.warning("%s: %s", self._topic, error)
                delay = min(2 * delay, _LONGEST_DELAY)
                continue
            _log.info("%s: connected to a broker again", self._topic)
            if self._stopping.is_set():  # while it was connecting: whoever stops may not have seen it
                consumer.cut("stopped")
            return

    def _connect(self) -> Consumer:
        guest = Guest(f"forkd {self._me} {self._topic}", self._address.heartbeat)
        link = Link(connect(self._address, guest, self._declare))
        consumer = Consumer(link, self._address.heartbeat, self._group, self._reader)
        self._hands.consumer = consumer
        consumer.begin(self._queues, partial(self._hands.take, consumer), self._on_end)
        return consumer

    def _declare(self, connection: Any) -> None:
        channel = connection.channel(CHANNEL)
        names.declare_exchange(channel)
        for queue in self._queues:
            names.declare_queue(channel, queue, self._address.waiting)
        channel.queue_bind(self._queues[1], names.EXCHANGE, routing_key=self._topic)
        channel.basic_qos(0, min(self._group.limit, _MOST_UNANSWERED), False)
