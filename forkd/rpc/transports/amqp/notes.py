"""What a call over a broker waits for, and what its caller finds in its box: an answer, or what became of it else."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from forkd.rpc.transports.amqp.dialogue import Dialogue

T = TypeVar("T")


class Box:
    """Where a caller finds the notes of one call; `notes` is a queue to wait at, in the manner of who waits."""

    __slots__ = ("notes", "number")

    def __init__(self, number: int, notes: Any) -> None:
        self.number = number
        self.notes = notes


class Connected(Protocol):
    """A connection, as the steps of a call know it."""

    dialogue: Dialogue


class Connect(NamedTuple):
    """Wait for a connection; raise `BrokerUnavailable` where there is none by the monotonic `deadline`."""

    deadline: float


class Wait(NamedTuple):
    """Wait for the next note in a box that is in; None at the monotonic `deadline`."""

    connection: Any  # the one that `Connect` gave
    box: Box
    deadline: float


Steps: TypeAlias = Generator[Connect | Wait, Any, T]
"""What goes through its waits, is sent what came of each, and returns a `T` in the end."""


class Answer(NamedTuple):
    """What a worker says, and which one, where it tells."""

    message: dict[str, Any]
    worker: str


class Returned(NamedTuple):
    """There is no queue for the call."""


class Full(NamedTuple):
    """A queue has no room for the call."""


class Gone(NamedTuple):
    """The connection has ended."""

    why: str


class Count(NamedTuple):
    """How many consumers a queue has; None where there is no such queue."""

    consumers: int | None


class Unblocked(NamedTuple):
    """The broker takes calls again."""


class Heard(NamedTuple):
    """The broker is there."""
