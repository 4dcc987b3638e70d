"""What operators want, by what they asked for and what the configuration says, and what was given up of it since."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkd.core import events

if TYPE_CHECKING:
    from forkd.core.spec import Config, ServiceSpec

Request = events.Reload | events.Restart | events.Stop | events.Scale | events.SignalWorkers


class Asked(NamedTuple):
    """A request of an operator, and when it was made."""

    request: Request
    at: float


class Wants:
    """Which services are to run, which generations of each, and with how many workers."""

    def __init__(self, config: Config) -> None:
        self.runtime_dir = config.runtime_dir
        self.configured = {spec.name: spec for spec in config.services}
        self.generation = 1  # the newest that was read
        self.sizes = {(spec.name, 1): spec.workers for spec in config.services}  # how many workers each is to have
        self.specs = {(spec.name, 1): spec for spec in config.services}
        self.settled: dict[str, int] = {}  # the generation that a roll starts from, as the supervisor shows it
        self.rolled: set[tuple[str, int]] = set()
        self.dropped: set[tuple[str, int]] = set()  # generations that were rolled back
        self.fresh: set[str] = set()  # services that had nothing to roll from when their spec was read
        self.stopping = False
        self.stopped: set[str] = set()
        self.hurried: set[str] = set()  # services to stop at once
        self.given_up: set[str] = set()  # services that failed for good
        self.asked_to_read: list[events.Reload] = []
        self.reading: list[events.Reload] | None = None
        self.read_at = 0.0
        self.tickets: dict[int, Asked] = {}
        self.last_request: Asked | None = None

    def hear(self, request: Request, now: float) -> None:
        """Write down that something was asked for."""
        self.last_request = asked = Asked(request, now)
        if request.ticket:
            self.tickets[request.ticket] = asked

    def stop(self, names: set[str], *, quick: bool) -> None:
        """Write down that services are to stop, and not to roll any more."""
        for name in names - self.stopped:
            self.abandon_roll(name)
        self.given_up -= names
        self.hurried |= names if quick else set()
        self.stopped |= names

    def start(self, names: set[str]) -> None:
        """Write down that services are to run, whatever was before."""
        self.stopped -= names
        self.given_up -= names
        self.hurried -= names

    def scale(self, request: events.Scale, name: str) -> None:
        """Write down how many workers a service that runs is to have, of whichever generation."""
        size = request.workers
        if request.relative:
            size = max(1, self.sizes[name, self.current(name)] + request.workers)
        for key in [key for key in self.sizes if key[0] == name]:
            self.sizes[key] = size

    def read(self, spec: ServiceSpec, *, running: bool) -> None:
        """Write down a service's spec as it was read; a new generation, but where HUP is all that is wanted."""
        name = spec.name
        self.configured[name] = spec
        if running and spec.reload == "signal" and spec == self.specs[name, self.current(name)]:
            self.sizes[name, self.current(name)] = spec.workers
        else:
            key = name, self.generation
            self.sizes[key], self.specs[key] = spec.workers, spec

    def remove(self, name: str) -> None:
        """Write down that a service is in the configuration no more."""
        del self.configured[name]
        self.stopped.discard(name)
        self.hurried.discard(name)

    def abandon_roll(self, service: str) -> None:
        """Give up all that came after what a service settled on."""
        settled = self.settled.get(service)
        if settled is not None and service not in self.fresh:
            self.drop_after(service, settled)

    def drop_after(self, service: str, generation: int) -> None:
        """Give up all that came after a generation."""
        self.dropped |= {key for key in self.sizes if key[0] == service and key[1] > generation}

    def named(self, request: Request) -> set[str]:
        """Return the services that a request is about."""
        return {name for name in self.configured if request.service in {None, name}}

    def current(self, service: str) -> int:
        """Return the newest generation of a service that was not given up: the one that it is to run."""
        return max(number for name, number in self.sizes if name == service and (name, number) not in self.dropped)

    def current_spec(self, service: str) -> ServiceSpec:
        """Return the spec of the generation that a service is to run."""
        return self.specs[service, self.current(service)]

    def stops(self, service: str) -> bool:
        """Return whether a service is to stop, or has."""
        return self.stopping or service in self.stopped | self.given_up or service not in self.configured
