"""A client's side of the local transport: sends calls to workers and returns their answers, and what is retried."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from forkd.rpc.errors import Moved, NoSuchWorker, RpcError, Timeout, WorkerLost
from forkd.rpc.transports.local.connections import Connections
from forkd.rpc.wire import frame

if TYPE_CHECKING:
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.local.connection import Box, Connection
    from forkd.rpc.wire import Message


class LocalClient:
    """The calls of one process to one topic. Any thread may call; none is started."""

    def __init__(self, topic: str, directory: str) -> None:
        self._connections = Connections(topic, directory)
        self._ids = itertools.count(1)

    def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `Transport`: send a call to the worker with the fewest in flight and return its answer."""
        return self._ask(call, deadline)[1]

    def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `Transport`: those that are ready are at it together, then the other slots have time to get ready."""
        answers: dict[str, Message | RpcError] = {}
        begun: list[tuple[int, Connection, Box]] = []
        try:
            rest = self._begin_all(call, deadline, begun)
            for slot, connection, box in begun:
                try:
                    answers[connection.name] = connection.answer(box, deadline)
                except Moved:
                    rest.append(slot)
                except RpcError as error:
                    answers[connection.name] = error
        finally:  # whatever was raised: a green thread's timeout may have been
            for _slot, connection, box in begun:
                connection.give_up(box)
        for slot in rest:
            try:
                name, answer = self._ask(call._replace(worker=slot), deadline)
                answers[name] = answer
            except NoSuchWorker:  # the slot has gone meanwhile
                continue
            except RpcError as error:
                answers[self._connections.path(slot)] = error
        return answers

    def close(self) -> None:
        """As in `Transport`."""
        self._connections.close()

    def forget(self) -> None:
        """As in `Transport`."""
        self._connections.forget()

    def _ask(self, call: Outgoing, deadline: float) -> tuple[str, Message]:
        """Return who answered and what; a call that its worker did not begin goes to another, until the deadline."""
        losses = 0
        while True:
            connection: Connection
            connection = pooled = self._connections.choose(deadline, call.worker)
            try:
                connection = pooled.borrow()
                return connection.name, connection.answer(self._begin(connection, call, deadline), deadline)
            except Moved:
                continue
            except WorkerLost:
                losses += 1
                if not self._connections.may_repeat(call.method, connection, losses):
                    raise
            finally:
                pooled.take_back(connection)

    def _begin_all(self, call: Outgoing, deadline: float, begun: list[tuple[int, Connection, Box]]) -> list[int]:
        """Send the call to each slot and add to `begun` where it was; return the other slots."""
        rest = []
        for slot in self._connections.slots(deadline):
            connection = self._connections.best(slot)
            try:
                if connection is None:
                    rest.append(slot)
                else:
                    begun.append((slot, connection, self._begin(connection, call, deadline)))
            except (Moved, Timeout):
                rest.append(slot)
        return rest

    def _begin(self, connection: Connection, call: Outgoing, deadline: float) -> Box:
        number = next(self._ids)
        return connection.begin(number, frame(call.message(number, deadline)), deadline)
