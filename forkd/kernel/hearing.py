"""What is said on the channels: messages written for zygotes, and what comes up taken for no more than it may say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import forkd
from forkd import tallies
from forkd.channel import PROTOCOL, REASON_LIMIT
from forkd.config import decode
from forkd.core.events import Draining, Failed, Ready, Recycle, Seen, Started
from forkd.errors import ProtocolError
from forkd.kernel.offspring import Offspring, Worker, Zygote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.channel import Message
    from forkd.core.events import Event
    from forkd.kernel.listeners import Listener

TURN_LIMIT = 16  # messages of one sender that are read before everyone else has had a turn
LIFE_LIMIT = 100  # messages of one sender, beside those that it was asked for; an honest one has a handful to send


def greeting(zygote: Zygote, launcher_pid: int, listeners: Sequence[Listener]) -> dict[str, Any]:
    """Write the message that makes a zygote of a process; the listeners' descriptors go with it."""
    return {
        "type": "spec",
        "protocol": PROTOCOL,
        "version": forkd.__version__,
        "spec": decode.spec_to(zygote.spec),
        "generation": zygote.generation,
        "launcher_pid": launcher_pid,
        "listen": [one.address for one in listeners],
    }


def order(worker: Worker, listen: Sequence[str]) -> dict[str, Any]:
    """Write the order to fork a worker; its channel, its scoreboard and its own listeners go with it."""
    return {"type": "fork", "id": worker.id, "slot": worker.slot, "listen": listen}


def understand(one: Offspring, message: Message) -> Event | None:
    """Take a message for the event it means; Started says which pid announces itself, yet to be checked.

    None: it is not from that very process, but from another that has its channel, such as a fork of it.
    Raises ProtocolError for what this sender may not say, or not now, or not so often.
    """
    announced = one.pid is not None
    stranger = announced and message.pid != one.pid
    if isinstance(one, Worker) and one.owed and message.body["type"] == "dumped" and not stranger:
        one.owed -= 1
    else:
        one.heard += 1
    if one.heard > LIFE_LIMIT:
        msg = "it sends too many messages"
        raise ProtocolError(msg)
    if stranger:
        return None
    match one, message.body["type"]:
        case (_, "failed") if not one.failed:
            one.failed = True
            return Failed(one.id, _reason(message, "error"), _text(message, "traceback"))
        case (Zygote(), "imported"):
            one.imported = True
            return Ready(one.id)
        case (Worker(), "spawned") if not announced:
            return Started(one.id, message.pid)
        case (Worker() as worker, kind) if announced:
            return _from_worker(worker, kind, message)
        case (_, kind):
            raise _refusal(kind)


def _from_worker(worker: Worker, kind: str, message: Message) -> Event:
    match kind:
        case "ready":
            worker.names = worker.names or tallies.names(message.body.get("counters", []))
            return Ready(worker.id)
        case "draining":
            return Draining(worker.id)
        case "recycle":
            return Recycle(worker.id, _reason(message, "reason"))
        case "dumped":
            worker.board.note_emptied()
            return Seen(worker.id, worker.board.read().heartbeat, _text(message, "stacks"))
        case _:
            raise _refusal(kind)


def _refusal(kind: str) -> ProtocolError:
    return ProtocolError(f"it may not say {kind[:40]!r} now")


def _reason(message: Message, field: str) -> str:
    """Take a text that is kept with a slot's last ends, and shown with all others in one answer."""
    return _text(message, field)[:REASON_LIMIT]


def _text(message: Message, field: str) -> str:
    value = message.body.get(field)
    if not isinstance(value, str):
        msg = f"its {field} is no text"
        raise ProtocolError(msg)
    # JSON can spell what no encoding can: half of a surrogate pair would raise wherever it is printed.
    return value.encode(errors="replace").decode()
