"""What the server needs of an engine, eventlet's or native threads': a loop for readiness, threads for requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from forkd.wsgi.connection import Connection, Waiter
from forkd.wsgi.listener import Listener


class Reception(NamedTuple):
    """Whom the loop tells what happens; each is called in the loop, and neither blocks nor raises."""

    acceptable: Callable[[Listener], None]
    """Someone waits at a listener."""
    readable: Callable[[Connection], object]
    """Bytes, or the end of them, have come on a connection that is not busy."""
    sweep: Callable[[], None]
    """The time that was asked for by `wake_in` has passed."""


class Loop(ABC):
    """Watches sockets in one thread, or in none.

    A connection that is watched is the loop's; the `Reception` may give it to a request's thread, and `watch` gives
    it back. `watch`, `release`, `forget` and `call` may be used by any thread, the others by the loop alone, once it
    runs.
    """

    @abstractmethod
    def start(self, reception: Reception) -> None:
        """Run it."""

    @abstractmethod
    def stop(self) -> None:
        """End it, and return when it has ended."""

    @abstractmethod
    def call(self, fn: Callable[..., object], *args: object) -> None:
        """Call `fn(*args)` in the loop, soon."""

    @abstractmethod
    def wake_in(self, seconds: float) -> None:
        """Have `sweep` called after so many seconds; the last word counts."""

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """Report connections that wait at a listener."""

    @abstractmethod
    def unlisten(self, listener: Listener) -> None:
        """Report them no more."""

    @abstractmethod
    def watch(self, conn: Connection) -> None:
        """Report when a connection becomes readable."""

    def release(self, conn: Connection) -> None:  # noqa: B027 -- only the hub minds that others wait too
        """Let the application wait for what comes on a busy connection by any means, until it is watched again."""

    @abstractmethod
    def forget(self, conn: Connection) -> None:
        """Let go of a connection that is about to be closed."""


class Crew(ABC):
    """Threads of the service's group, each of which serves one request at a time."""

    @abstractmethod
    def submit(self, conn: Connection) -> None:
        """Have a connection's request served, as soon as a thread is free; never blocks, and is called in the loop.

        One of a private connection goes before those that wait: that there are many does not make a worker unhealthy.
        """

    @abstractmethod
    def nudge(self) -> None:
        """Try again to get a thread for what waits, in case others had taken all of the group's; now and then."""

    @abstractmethod
    def dismiss(self) -> None:
        """Let threads end that wait for work, and the others when they have served what they are at."""


class Engine(NamedTuple):
    """The parts of one engine."""

    loop: Loop
    crew: Crew
    waiter: Waiter
    aside: Callable[..., object]
    """Calls a function with its arguments in a thread, for what the loop must not do; not at all if there is none."""
