"""Many connections at once, each of which sends its pieces in step with the others: as fast as one, and as exact."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.wsgi.client import Client, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

AT_ONCE = 200
_STEP = request("/hello")


def halves(data: bytes, before: bytes = b"", behind: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Yield `data`, with what is never split before and behind it, split at every byte."""
    for at in range(1, len(data)):
        yield before + data[:at], data[at:] + behind


def exchange(address: str, scripts: Iterable[Sequence[bytes]]) -> list[bytes]:
    """Send the pieces of each script on a connection of its own; return what came on each up to its orderly end.

    Before each next piece the server answers somebody else, so that it has most likely seen those before.
    """
    answers = []
    waiting = list(scripts)
    with Client(address) as pilot:
        while waiting:
            answers += _at_once(address, waiting[:AT_ONCE], pilot)
            del waiting[:AT_ONCE]
    return answers


def _at_once(address: str, scripts: list[Sequence[bytes]], pilot: Client) -> list[bytes]:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in scripts]
        for step in range(max(map(len, scripts))):
            for client, script in zip(clients, scripts, strict=True):
                if step < len(script):
                    client.send(script[step])
            pilot.send(_STEP)
            pilot.answer()
        return [client.rest() for client in clients]
