"""Who waits for what: an operator's request ends when every service that it concerns has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkd.core.state import LastReload, Ticket

if TYPE_CHECKING:
    from forkd.core.state import State

RELOAD, RESTART, STOP, SCALE, SIGNAL = "reload", "restart", "stop", "scale", "signal"


def issue(state: State, kind: str, number: int, services: set[str], now: float) -> None:
    """Open a ticket that waits for `services`; with none to wait for it has ended already."""
    ticket = Ticket(kind, number, services)
    state.tickets.append(ticket)
    _end_if_over(state, ticket, now)


def refuse(state: State, kind: str, number: int, error: str, now: float) -> None:
    """End a request that cannot be done."""
    if kind == SCALE and not number:  # TTIN or TTOU, whose sender can be told by nothing else
        state.tell("refused", text=f"{kind}: {error}")
    ticket = Ticket(kind, number, set())
    ticket.errors.append(error)
    state.tickets.append(ticket)
    _end_if_over(state, ticket, now)


def resolve(state: State, service: str, kinds: set[str], error: str | None, now: float) -> None:
    """Note that a service has done (or, with `error`, failed to do) what tickets of these kinds wait for."""
    for ticket in list(state.tickets):
        if ticket.kind in kinds and service in ticket.waiting:
            ticket.waiting.discard(service)
            if error is not None:
                ticket.errors.append(f"{service}: {error}")
            _end_if_over(state, ticket, now)


def _end_if_over(state: State, ticket: Ticket, now: float) -> None:
    if ticket.waiting:
        return
    state.tickets.remove(ticket)
    ok, text = not ticket.errors, "; ".join(ticket.errors) or None
    if ticket.kind == RELOAD:
        state.last_reload = LastReload(now, ok, text)
        state.tell("reload_ended", ok=ok, text=text, generation=state.generation)
    state.tell("ended", ticket=ticket.number, ok=ok, text=text)
