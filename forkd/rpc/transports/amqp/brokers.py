"""A caller's way to a broker: one connection at a time, made when a call needs it, and tried for until its deadline."""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from forkd.errors import ForkdError
from forkd.rpc.errors import BrokerUnavailable, WorkerLost
from forkd.rpc.transports.amqp import names
from forkd.rpc.transports.amqp.connecting import PATIENCE, Guest, NoBroker, connect
from forkd.rpc.transports.amqp.connection import Connection
from forkd.rpc.transports.amqp.dialogue import CALLS, COUNTS
from forkd.rpc.transports.amqp.link import Link
from forkd.rpc.transports.amqp.notes import Box
from forkd.rpc.transports.waits import Notes, left_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkd.rpc.transports.amqp.address import Address

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two tries


class Brokers:
    """The connection of one process for one topic, which its threads share."""

    def __init__(self, topic: str, address: Address) -> None:
        self._topic = topic
        self._address = address
        self._connection: Connection | None = None
        self._search = threading.Lock()  # of the one thread that connects
        self._numbers = itertools.count(1)
        self._closed = False

    def box(self) -> Box:
        """Return a new box for a call, with a number that no other has."""
        return Box(next(self._numbers), Notes())

    def connection(self, deadline: float) -> Connection:
        """Return the connection; raise `BrokerUnavailable` where there is none by the monotonic `deadline`.

        At once, where waiting is of no use: the broker does not want us.
        """
        connection = self._connection
        if connection is not None:
            connection.glance()
            if not connection.dialogue.over:
                return connection
        if not self._search.acquire(timeout=-1 if deadline == math.inf else left_until(deadline)):
            raise BrokerUnavailable(f"{self._topic}: another thread still tries to reach a broker")
        try:
            if self._connection is None or self._connection.dialogue.over:
                self._connection = self._connect(deadline)
            return self._connection
        finally:
            self._search.release()

    def close(self) -> None:
        """End the connection; callers that wait raise `WorkerLost`."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def forget(self) -> None:
        """Close a parent's descriptor in its fork."""
        if self._connection is not None:
            self._connection.forget()

    def _connect(self, deadline: float) -> Connection:
        for pause in pauses():
            if self._closed:
                raise WorkerLost(f"{self._topic}: the client was closed")
            try:
                return Connection(made_link(self._topic, self._address, deadline), self._address.heartbeat)
            except NoBroker as error:
                if left_until(deadline) <= pause:
                    raise BrokerUnavailable(f"{self._topic}: {error}") from None
            time.sleep(pause)
        raise AssertionError


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each next try, without end; at random, lest all callers come at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
        pause = min(2 * pause, _LONGEST_PAUSE)


def made_link(topic: str, address: Address, deadline: float) -> Link:
    """Return a new link to a broker, for calls; it waits. Raise `NoBroker`, or `BrokerUnavailable` if that is final."""
    patience = min(PATIENCE, max(left_until(deadline), _FIRST_PAUSE))
    guest = Guest(f"{os.path.basename(sys.argv[0] or 'python')} {os.getpid()} {topic}", 0, patience)
    try:
        return Link(connect(address, guest, _declare))
    except NoBroker:
        raise
    except ForkdError as error:
        raise BrokerUnavailable(f"{topic}: {error}") from None


def _declare(connection: Any) -> None:
    channel = connection.channel(CALLS)
    names.declare_exchange(channel)
    channel.basic_consume(names.REPLIES, no_ack=True)
    channel.confirm_select()
    connection.channel(COUNTS)
