"""What a service that is called remotely derives from; the dispatcher runs the calls, a transport brings them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.errors import ForkdError
from forkd.rpc.dispatcher import Dispatcher
from forkd.rpc.transports import intake
from forkd.server import Server as BaseServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkd.rpc.transports import Intake
    from forkd.service import Service


class Server(BaseServer):
    """Every public method of a subclass can be called on `topic`, each call in a thread of the service's group.

    Public is a method that the subclass or a parent below this class defines under a name without a leading
    underscore, and that is no `@periodic_task`. What is inherited from here, overridden or not, cannot be called.
    Arguments come by name; a parameter named `context` gets the call's context, a dict, and no argument.

    `topic`, `transport`, `version` ("major.minor": serves callers of the same major and up to that minor),
    `call_queue` (how many calls may wait in a worker for a thread; None: as many as it has threads), `send_tracebacks`
    and `allow` (callers of other users on this host: `uid:…`, `gid:…`, `user:…`, `group:…`) may be set on the class or,
    before `init`, on the instance; a subclass need not call `__init__`.
    """

    topic: str = ""
    transport: str = "local"
    version: str = "1.0"
    call_queue: int | None = None
    send_tracebacks: bool = True
    allow: Sequence[str] = ()

    _dispatcher: Dispatcher
    _intake: Intake

    def __init__(self, topic: str | None = None, transport: str | None = None) -> None:
        if topic is not None:
            self.topic = topic
        if transport is not None:
            self.transport = transport

    def init(self, service: Service) -> None:
        """Open the topic; calls are taken from `start` on. Raise `ForkdError` for what could never be served."""
        if not self.topic:
            name = type(self).__qualname__
            raise ForkdError(f"{name}: an rpc.Server needs a topic: set `topic` in its service, or on the class")
        self._dispatcher = Dispatcher(self, service, Server)
        self._intake = intake(self.transport, self.topic, service, self._dispatcher, self.allow)
        super().init(service)

    def start(self) -> None:
        """Begin to take calls."""
        self._dispatcher.start()
        self._intake.start()

    def stop(self, graceful: bool = True) -> None:
        """Take no further call; graceful: return when those that began are answered, others go to other workers."""
        self._intake.stop(graceful)
