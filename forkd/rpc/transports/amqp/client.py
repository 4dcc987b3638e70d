"""A caller's side of the amqp transport, for threads: they go through the steps of a call, and wait where these do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from forkd.rpc.transports.amqp.brokers import Brokers
from forkd.rpc.transports.amqp.notes import Wait
from forkd.rpc.transports.amqp.steps import Calls

if TYPE_CHECKING:
    from forkd.rpc.errors import RpcError
    from forkd.rpc.outgoing import Outgoing
    from forkd.rpc.transports.amqp.address import Address
    from forkd.rpc.transports.amqp.notes import Connect, Steps
    from forkd.rpc.wire import Message

T = TypeVar("T")


class AmqpClient:
    """The calls of one process to one topic. Any thread may call; none is started."""

    def __init__(self, topic: str, address: Address) -> None:
        self._brokers = Brokers(topic, address)
        self._calls = Calls(topic, self._brokers.box)

    def ask(self, call: Outgoing, deadline: float) -> Message:
        """As in `Transport`."""
        return self._go(self._calls.ask(call, deadline)).message

    def ask_all(self, call: Outgoing, deadline: float) -> dict[str, Message | RpcError]:
        """As in `Transport`."""
        return self._go(self._calls.ask_all(call, deadline))

    def close(self) -> None:
        """As in `Transport`."""
        self._brokers.close()

    def forget(self) -> None:
        """As in `Transport`."""
        self._brokers.forget()

    def _go(self, steps: Steps[T]) -> T:
        try:
            wanted = next(steps)
            while True:
                try:
                    found = self._await(wanted)
                except BaseException as error:  # noqa: BLE001 -- whatever ends a thread's wait is for the steps to tidy up
                    wanted = steps.throw(error)
                else:
                    wanted = steps.send(found)
        except StopIteration as end:
            result: T = end.value
            return result

    def _await(self, wanted: Connect | Wait) -> Any:
        if isinstance(wanted, Wait):
            return wanted.connection.wait(wanted.box, wanted.deadline)
        return self._brokers.connection(wanted.deadline)
