"""The launcher's end of the control socket: clients' requests become events, news become their answers.

It never blocks and never waits for a client: what a client does not read is bounded, and so is what it may send.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any

from forkd.control import protocol
from forkd.control.connection import Connection
from forkd.control.history import History
from forkd.core.events import Health, Reload, Restart, Scale, SignalWorkers, Stop
from forkd.errors import ProtocolError
from forkd.log import stamp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from forkd.core.events import Event
    from forkd.core.state import News

CONNECTIONS = 64


class Endpoint:
    """At most CONNECTIONS clients; for one more, the one that has been here longest and waits for nothing must go.

    `fileno` is readable when `turn` has something to do: it is an epoll instance, so that the launcher's own
    selector need not know which clients can be written to.
    """

    def __init__(
        self,
        listener: socket.socket,
        status: Callable[[str | None], dict[str, Any]],
        checks: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        """`status` gives the launcher's picture, and `checks` who is to be asked how it is."""
        self._listener = listener
        self._status = status
        self._checks = checks
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._clients: dict[int, Connection] = {}
        self._history = History()
        self._tickets = 0
        self._spare = _spare_descriptor()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._epoll.fileno()

    def turn(self) -> list[Event]:
        """Serve one request of whoever has one, and return what they asked of the supervisor."""
        events: list[Event] = []
        for number, mask in self._epoll.poll(0, CONNECTIONS):
            if number == self._listener.fileno():
                self._accept()
            elif (client := self._clients.get(number)) is not None:
                request = client.ready(mask)
                if request is not None:
                    events += self._obey(client, request)
        return events

    def tell(self, news: Iterable[News]) -> None:
        """Keep the news, and pass on to each client what it waits for."""
        at = stamp(time.time())
        for item in news:
            if item.kind == "ended":
                self._end(item)
            else:
                self._pass_on(self._history.add(item, at), item.service)

    def close(self) -> None:
        """Part with everybody: a client that waits for the end of everything takes this for it."""
        self._listener.close()
        for client in list(self._clients.values()):
            client.close()
        self._epoll.close()
        os.close(self._spare)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._turn_away()
            return
        client = Connection(sock, self._epoll, self._clients)
        if (refusal := client.refusal()) is not None:
            client.part(refusal)
        elif len(self._clients) > CONNECTIONS:
            self._make_room()

    def _turn_away(self) -> None:
        """Use the spare descriptor where there is no other: a caller left waiting would wake the launcher for ever."""
        os.close(self._spare)
        try:
            self._listener.accept()[0].close()
        except OSError:
            return
        finally:
            self._spare = _spare_descriptor()

    def _make_room(self) -> None:
        clients = list(self._clients.values())
        leaver = next((client for client in clients if not client.ticket), clients[-1])
        leaver.part("too many connections to the launcher")
        leaver.close()

    def _end(self, item: News) -> None:
        for client in list(self._clients.values()):
            if client.ticket and client.ticket == item.ticket:
                _end(client, ok=item.ok is not False, text=item.text or "")

    def _pass_on(self, line: bytes, service: str | None) -> None:
        for client in list(self._clients.values()):
            if client.ticket and (client.service is None or service in {client.service, None}):
                client.tell(line)

    def _obey(self, client: Connection, line: bytes) -> list[Event]:
        try:
            request = protocol.parse_request(line)
        except ProtocolError as error:
            client.part(str(error))
            return []
        if (events := self._at_once(client, request)) is not None:
            return events
        if client.ticket:
            client.send(protocol.error_line("one thing at a time: this connection waits for another request"))
            return []
        self._tickets += 1
        client.ticket, client.service, client.follow = self._tickets, request.service, request.follow
        client.send(protocol.accepted_line(client.ticket))
        if request.verb == "events":
            for news in self._history.of(request.service):
                client.tell(news)
            _end(client)
            return []
        return [_event(request, client.ticket)]

    def _at_once(self, client: Connection, request: protocol.Request) -> list[Event] | None:
        """Do what needs no ticket, since it takes no time, and return what came of it; None for everything else."""
        match request.verb:
            case "status":
                client.send(protocol.status_line(self._status(request.service)))
            case "checks":
                client.send(protocol.checks_line(self._checks()))
            case "health":
                return [Health(request.id or 0, request.failures or 0, request.unhealthy, request.text or "")]
            case _:
                return None
        return []


def _end(client: Connection, *, ok: bool = True, text: str = "") -> None:
    """Tell a client that its request is over, and let it go if it does not follow the news."""
    line = protocol.ended_line(client.ticket, ok, text)
    if not client.follow:
        client.release()
    client.send(line)


def _event(request: protocol.Request, ticket: int) -> Event:
    match request.verb:
        case "reload":
            return Reload(ticket, request.service)
        case "restart":
            return Restart(ticket, request.service)
        case "scale":
            return Scale(ticket, request.service, request.workers or 0, request.relative)
        case "signal":
            return SignalWorkers(ticket, request.service, request.slot, request.signal or 0)
        case _:
            return Stop(ticket, request.service, request.quick)


def _spare_descriptor() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
